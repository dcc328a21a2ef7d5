"""Figures of images with score maps, boxes, and true masks of objects."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.figures.canvas import INK, style
from fbr_plugin.figures.grid import MAX_COLUMNS, MAX_ROWS, Maps, check_number, grid, note_of, photo_arrays
from fbr_plugin.figures.marks import RIM, hatch, ignored_patch, outline, pairs_of
from fbr_plugin.functional import resize
from fbr_plugin.metrics.boxes import box_iou

_OPACITY = 0.6  # of scores and of ignored pixels over a photo
_HEAT = "viridis"
_BAR = 0.7  # inches beside the pictures
_FOUND = "#ff3b3b"


@style
def boxes_over_images(images: Maps, maps: Maps, boxes: Sequence[Tensor], found: Maps) -> Figure:
    """Plot images with true (white) and predicted boxes (red) and, below them, the score maps.

    Below each image is the largest IoU of the predicted box with a true one.

    Args:
        images: N images [3, H, W] in [0, 1], of which at most the first `MAX_COLUMNS` are drawn.
        maps: N score maps [H, W] of any range.
        boxes: for each image its true boxes [n, 4]: x0, y0, x1, y1 in pixels of the image.
        found: N boxes [4].
    """
    pairs = [(true.cpu().numpy(), own.cpu().numpy()) for true, own in zip(boxes, found, strict=True)]
    ious = [box_iou(true, own[None]).max(initial=0) for true, own in pairs]
    texts = [f"IoU {100 * iou:.1f}" if len(true) else "" for iou, (true, _) in zip(ious, pairs, strict=True)]
    names = (("white", "true box"), (_FOUND, "box found"))
    lines: list[Artist] = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=name) for colour, name in names
    ]
    figure, panels = _over_images(images, maps, lines, texts)
    for own in panels.values():
        for axes, (true, drawn) in zip(own, pairs, strict=False):
            for colour, corners in (("white", true), (_FOUND, drawn[None])):
                for x0, y0, x1, y1 in corners.tolist():
                    corner, wide, high = (x0 - 0.5, y0 - 0.5), x1 - x0 + 1, y1 - y0 + 1
                    box = Rectangle(corner, wide, high, fill=False, edgecolor=colour, linewidth=1.4)
                    box.set_path_effects(RIM)
                    axes.add_patch(box)
    return figure


@style
def object_masks_over_images(images: Maps, maps: Maps, masks: Maps) -> Figure:
    """Plot images and, below them, the score maps, both with the outline of the true mask (white).

    Args:
        images: N images [3, H, W] in [0, 1], of which at most the first `MAX_COLUMNS` are drawn.
        maps: N score maps [H, W] of any range.
        masks: N masks [h, w], possibly on another grid: 1 = object, 0 = background, 255 = ignored, which is
            hatched.
    """
    check_number(images, masks)
    line = Patch(facecolor="white", edgecolor=INK, linewidth=0.5, label="outline of the true object")
    resized = [mask for _, mask in pairs_of(images[:MAX_COLUMNS], masks[:MAX_COLUMNS])]
    ignored = any((mask == IGNORE).any() for mask in resized)
    figure, panels = _over_images(images, maps, [line, *([ignored_patch()] if ignored else [])])
    for own in panels.values():
        for axes, mask in zip(own, resized, strict=True):
            hatch(axes, mask == IGNORE)
            if (mask == 1).any():
                outline(axes, mask == 1, "white")
    return figure


@style
def class_maps(images: Maps, maps: Mapping[str, Maps], note: str = "") -> Figure:
    """Plot one row per image: the image, and overlaid maps of one class, such as a seed and its gate.

    Args:
        images: N images [3, H, W] in [0, 1], of which at most the first `MAX_ROWS` are drawn.
        maps: title -> N maps [h, w] in [0, 1].
        note: text below the pictures, such as the rule by which the images were chosen.
    """
    for own in maps.values():
        check_number(images, own)
    photos = photo_arrays(images[:MAX_ROWS])
    columns = {"image": photos, **{title: [_grey(photo) for photo in photos] for title in maps}}
    figure, panels = grid(columns, vertical=True, note=note_of(len(photos), len(images), note))
    for title, own in maps.items():
        _heat(panels[title], own)
    _bar(figure, [axes for title in maps for axes in panels[title]], "score")
    return figure


def _over_images(
    images: Maps, maps: Maps, legend: Sequence[Artist], captions: Sequence[str] = ()
) -> tuple[Figure, dict[str, list[Axes]]]:
    """Images and, below them, their score maps of any range, with a colour bar."""
    check_number(images, maps)
    photos = photo_arrays(images[:MAX_COLUMNS])
    strips = {"image": photos, "score map": [_grey(photo) for photo in photos]}
    note = note_of(len(photos), len(images))
    figure, panels = grid(strips, captions={"image": captions[: len(photos)]}, legend=legend, note=note)
    scaled = [(own - own.min()) / (own.max() - own.min() or 1) for own in maps[:MAX_COLUMNS]]
    _heat(panels["score map"], scaled)
    _bar(figure, panels["score map"], "score, scaled to\n0 to 1 in each image")
    return figure, panels


def _grey(photo: NDArray[np.floating]) -> NDArray[np.floating]:
    """A photo [H, W, 3] without its colours, so that those of a map can be read."""
    return np.repeat(photo.mean(-1, keepdims=True), 3, -1)


def _heat(panels: Sequence[Axes], maps: Maps) -> None:
    """Overlay pictures with maps [h, w] in [0, 1], resized to them."""
    for axes, own in zip(panels, maps, strict=False):
        size = axes.images[0].get_size()
        grown = resize(own.detach()[None, None].double().cpu(), size)[0, 0].numpy()
        axes.imshow(grown, _HEAT, vmin=0, vmax=1, alpha=_OPACITY)


def _bar(figure: Figure, panels: Sequence[Axes], label: str) -> None:
    """Add a colour bar on the right, and the room that it needs."""
    figure.set_figwidth(figure.get_figwidth() + _BAR)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _HEAT), ax=panels, shrink=0.9, fraction=0.05, aspect=25, pad=0.02
    )
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=7)
