"""Figures of images with label maps, boxes, class maps or background clusters."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill

import numpy as np
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.data.readers.images import IGNORE, voc_palette
from fbr_plugin.errors import InputError
from fbr_plugin.figures.canvas import INK, style
from fbr_plugin.functional import resize

Maps = Tensor | Sequence[Tensor]
"""One tensor [N, ...], or N tensors [...] if the images differ in size."""

_OPACITY = 0.65  # of colours over an image
_CELL = 1.9  # inches of an image's side
_LINE = 0.2  # inches of a line of text
_TITLE, _TEXT = 10.8, 7.0  # points of a column's title, and of the text below a picture
CATEGORICAL = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6")


@style
def seeds_over_images(images: Maps, labels: Maps, class_names: Sequence[str]) -> Figure:
    """Plot images and, below them, the images overlaid with their label maps.

    Args:
        images: N images [3, H, W] in [0, 1].
        labels: N label maps [h, w], possibly on a coarser grid, 0 = background (left clear), 255 = ignored.
        class_names: names of the foreground classes.
    """
    over = [_blend(photo, _colours(own, class_names), own != 0) for photo, own in _pairs(images, labels)]
    return _class_legend(grid({"image": photo_arrays(images), "labels": over}), labels, class_names)


@style
def examples(
    images: Maps,
    truths: Maps | None,
    methods: Mapping[str, Maps],
    class_names: Sequence[str],
    captions: Mapping[str, Sequence[str]] = {},
) -> Figure:
    """Plot one row per image: the image, the true labels and the label map of each method.

    Args:
        images: N images [3, H, W] in [0, 1].
        truths: N label maps [h, w]; None leaves out their column.
        methods: method -> N label maps [h, w].
        class_names: names of the foreground classes.
        captions: title of a column, "image" and "truth" among them -> N texts below its pictures.
    """
    maps = methods if truths is None else {"truth": truths, **methods}
    columns = {"image": photo_arrays(images)}
    for name, labels in maps.items():
        columns[name] = [_colours(label, class_names) for _, label in _pairs(images, labels)]
    shown = [label for labels in maps.values() for label in labels]
    return _class_legend(grid(columns, vertical=True, captions=captions), shown, class_names)


@style
def boxes_over_images(images: Maps, maps: Maps, boxes: Sequence[Tensor], found: Maps) -> Figure:
    """Plot images with true (white) and predicted boxes (red) and, below them, the score maps.

    Args:
        images: N images [3, H, W] in [0, 1].
        maps: N score maps [H, W] of any range.
        boxes: for each image its true boxes [n, 4]: x0, y0, x1, y1 in pixels of the image.
        found: N boxes [4].
    """
    over = _score_maps(images, maps)
    figure = grid({"image": photo_arrays(images), "score map": over})
    for number, (true, drawn) in enumerate(zip(boxes, found, strict=True)):
        for axes in (figure.axes[number], figure.axes[len(over) + number]):
            for colour, own in (("white", true), ("#e6194b", drawn[None])):
                for x0, y0, x1, y1 in own.tolist():
                    corner, wide, high = (x0 - 0.5, y0 - 0.5), x1 - x0 + 1, y1 - y0 + 1
                    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=colour, linewidth=1.4))
    names = {"true": "white", "found": "#e6194b"}
    lines = [Patch(facecolor=colour, edgecolor=INK, label=name) for name, colour in names.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


@style
def object_masks_over_images(images: Maps, maps: Maps, masks: Maps) -> Figure:
    """Plot images and, below them, the score maps, both with the outline of the true mask (white).

    Args:
        images: N images [3, H, W] in [0, 1].
        maps: N score maps [H, W] of any range.
        masks: N masks [h, w], possibly on another grid: 1 = object, 0 = background, 255 = ignored, which is
            darkened.
    """
    over = _score_maps(images, maps)
    figure = grid({"image": photo_arrays(images), "score map": over})
    for number, (_, mask) in enumerate(_pairs(images, masks)):
        dark = np.zeros((*mask.shape, 4))
        dark[mask == IGNORE, 3] = _OPACITY
        for axes in (figure.axes[number], figure.axes[len(over) + number]):
            axes.imshow(dark)
            if (mask == 1).any() and (mask != 1).any():
                axes.contour(mask == 1, [0.5], colors="white", linewidths=1.4)
    named = {"outline of the object": "white", "ignored": "#595959"}
    lines = [Patch(facecolor=colour, edgecolor=INK, label=name) for name, colour in named.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


@style
def class_maps(images: Maps, maps: Mapping[str, Maps]) -> Figure:
    """Plot one row per image: the image, and overlaid maps of one class, such as a seed and its gate.

    Args:
        images: N images [3, H, W] in [0, 1].
        maps: title -> N maps [h, w] in [0, 1].
    """
    columns = {"image": photo_arrays(images), **{title: _heat(images, own) for title, own in maps.items()}}
    return grid(columns, vertical=True)


@style
def nroi_clusters(images: Maps, assignments: Maps) -> Figure:
    """Plot images and, below them, overlaid background clusters (negative regions of interest).

    Args:
        images: N images [3, H, W] in [0, 1].
        assignments: N maps [h, w] of the image's own cluster numbers; -1 = not background (left clear).
    """
    palette = to_rgba_array(CATEGORICAL)[:, :3]
    pairs = _pairs(images, assignments)
    over = [_blend(photo, palette[own % len(palette)], own >= 0) for photo, own in pairs]
    return grid({"image": photo_arrays(images), "NROIs": over})


def _pairs(images: Maps, maps: Maps) -> Iterator[tuple[NDArray[np.floating], NDArray[np.int64]]]:
    """Each image [H, W, 3] with its map of integers, resized to [H, W]."""
    if len(images) != len(maps):
        raise InputError(f"there are {len(images)} images but {len(maps)} maps; give one map per image")
    for photo, integers in zip(photo_arrays(images), maps, strict=True):
        resized = F.interpolate(integers[None, None].double(), photo.shape[:2], mode="nearest-exact")
        yield photo, resized[0, 0].long().cpu().numpy()


def photo_arrays(images: Maps) -> list[NDArray[np.floating]]:
    """N images [3, H, W] in [0, 1] as [H, W, 3] for matplotlib."""
    return [image.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy() for image in images]


def _score_maps(images: Maps, maps: Maps) -> list[NDArray[np.floating]]:
    """Each image [H, W, 3] overlaid with its score map [H, W] of any range."""
    return _heat(images, [(score - score.min()) / (score.max() - score.min() or 1) for score in maps])


def _heat(images: Maps, maps: Maps) -> list[NDArray[np.floating]]:
    """Each image [H, W, 3] overlaid with its map [h, w] in [0, 1] as colours."""
    photos = photo_arrays(images)
    grown = (
        resize(own[None, None].double().cpu(), photo.shape[:2])[0, 0].numpy()
        for photo, own in zip(photos, maps, strict=True)
    )
    return [
        (1 - _OPACITY) * photo + _OPACITY * colormaps["inferno"](own)[..., :3]
        for photo, own in zip(photos, grown, strict=True)
    ]


def _colours(label: NDArray[np.int64], class_names: Sequence[str]) -> NDArray[np.float64]:
    """A label map [H, W] as colours [H, W, 3]."""
    wrong = label[(label > len(class_names)) & (label != IGNORE) | (label < 0)]
    if wrong.size:
        raise InputError(f"the label {wrong[0]} has no name: {len(class_names)} foreground classes are named")
    return voc_palette()[label] / 255


def _blend(
    photo: NDArray[np.floating], colours: NDArray[np.float64], where: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Overlay colours [H, W, 3] on an image [H, W, 3] converted to grey, so that they stand out."""
    grey = photo.mean(-1, keepdims=True)
    return np.where(where[..., None], (1 - _OPACITY) * grey + _OPACITY * colours, photo)


def grid(
    strips: Mapping[str, Sequence[NDArray[np.floating]]],
    vertical: bool = False,
    captions: Mapping[str, Sequence[str]] = {},
) -> Figure:
    """Plot titled strips of pictures, one below the other, or as columns side by side, with texts below."""
    count = max(map(len, strips.values()))
    down, across = (count, len(strips)) if vertical else (len(strips), count)
    # As high and wide as the pictures need whose longer side is a cell.
    sizes = np.array([[picture.shape[:2] for picture in pictures] for pictures in strips.values()])
    sizes = sizes / sizes.max(-1, keepdims=True)
    heights, width = sizes[..., 0].max(0) if vertical else [sizes[..., 0].max()] * down, sizes[..., 1].max()
    below = _LINE * down if captions else 0
    size = (_CELL * width * across + 0.2, _CELL * sum(heights) + below + 0.3)
    # Compressed, rows of several heights would leave gaps.
    figure = Figure(figsize=size, layout="constrained" if np.ptp(heights) else "compressed")
    cells = figure.subplots(down, across, squeeze=False, height_ratios=heights)
    for strip, (title, pictures) in zip(cells.T if vertical else cells, strips.items(), strict=True):
        if vertical:
            strip[0].set_title(_wrapped(title, width, _TITLE), loc="center", fontsize=_TITLE)
        else:
            strip[0].set_ylabel(title, loc="center", fontweight="bold")
        for axes, picture in zip(strip, pictures, strict=True):
            axes.imshow(picture)
            axes.set(xticks=(), yticks=())
            axes.spines[:].set_visible(False)
        for axes, text in zip(strip, captions.get(title, ()), strict=False):
            axes.set_xlabel(_wrapped(text, width, _TEXT), fontsize=_TEXT)
    return figure


def _wrapped(text: str, width: float, points: float) -> str:
    """A text broken into lines that are about as wide as a cell of this relative width."""
    return fill(text, int(72 * _CELL * width / (0.65 * points)))


def _class_legend(figure: Figure, labels: Maps, class_names: Sequence[str]) -> Figure:
    """Add a legend of the classes in the label maps."""
    present = sorted({int(value) for label in labels for value in label.unique()} - {0})
    names, colours = {**dict(enumerate(class_names, start=1)), IGNORE: "ignored"}, voc_palette() / 255
    patches = [Patch(facecolor=colours[value], edgecolor=INK, label=names[value]) for value in present]
    entry = 0.55 + 0.075 * max((len(names[value]) for value in present), default=0)  # inches
    columns = min(6, max(1, int(figure.get_figwidth() / entry)))
    figure.set_figheight(figure.get_figheight() + _LINE * max(0, (len(present) - 1) // columns))
    figure.legend(handles=patches, loc="outside lower center", ncols=columns)
    return figure
