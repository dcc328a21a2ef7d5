"""Figures of images with masks of classes, or with background clusters."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.errors import InputError
from fbr_plugin.figures.canvas import INK, style
from fbr_plugin.figures.grid import MAX_COLUMNS, MAX_ROWS, Maps, check_number, grid, note_of, photo_arrays
from fbr_plugin.figures.marks import hatch, ignored_patch, outline, pairs_of
from fbr_plugin.figures.palette import CATEGORICAL, class_colours
from fbr_plugin.metrics.segmentation import SegmentationScore, image_iou

_OPACITY = 0.5  # of colours over a photo
_IOU = "IoU in %: mean over the background and the classes in the true mask."


@style
def labels_over_images(
    images: Maps, labels: Mapping[str, Maps], class_names: Sequence[str], note: str = ""
) -> Figure:
    """Plot images and, below them, the images under label maps.

    Args:
        images: N images [3, H, W] in [0, 1], of which at most the first `MAX_COLUMNS` are drawn.
        labels: title -> N label maps [h, w], possibly on a coarser grid, 0 = background (left clear), 255 =
            ignored.
        class_names: names of the foreground classes.
        note: text above the legend, such as the rule by which the images were chosen.
    """
    for maps in labels.values():
        check_number(images, maps)
    first = images[:MAX_COLUMNS]
    pairs = {title: list(pairs_of(first, maps[:MAX_COLUMNS])) for title, maps in labels.items()}
    strips = {"image": photo_arrays(first)}
    strips |= {title: [_painted(*pair, class_names) for pair in own] for title, own in pairs.items()}
    shown = [label for own in pairs.values() for _, label in own]
    note = note_of(len(first), len(images), note)
    figure, panels = grid(strips, legend=_class_legend(shown, class_names), note=note)
    for title, own in pairs.items():
        for axes, (_, label) in zip(panels[title], own, strict=True):
            _outline(axes, label, len(class_names))
    return figure


@style
def examples(
    images: Maps,
    truths: Maps | None,
    methods: Mapping[str, Maps],
    class_names: Sequence[str],
    captions: Mapping[str, Sequence[str]] = {},
    note: str = "",
) -> Figure:
    """Plot one row per image: the image, and under each label map the image again.

    Classes are filled and outlined in their colours, ignored pixels hatched. With true labels, the IoU of the
    image is below each method's label map: the mean over the background and the classes in the true labels.

    Args:
        images: N images [3, H, W] in [0, 1], of which at most the first `MAX_ROWS` are drawn.
        truths: N label maps [h, w]; None leaves out their column.
        methods: method -> N label maps [h, w].
        class_names: names of the foreground classes.
        captions: title of a column, "image" and "truth" among them -> N texts below its pictures.
        note: text above the legend, such as the rule by which the images were chosen.
    """
    maps = dict(methods) if truths is None else {"truth": truths, **methods}
    for own in maps.values():
        check_number(images, own)
    first = images[:MAX_ROWS]
    pairs = {title: list(pairs_of(first, own[:MAX_ROWS])) for title, own in maps.items()}
    columns = {"image": photo_arrays(first)}
    columns |= {title: [_painted(*pair, class_names) for pair in own] for title, own in pairs.items()}
    shown = {title: [label for _, label in own] for title, own in pairs.items()}
    scores = {}
    if truths is not None:
        score = SegmentationScore(len(class_names))
        for title in methods:
            scores[title] = [
                _iou_text(score, *each) for each in zip(shown[title], shown["truth"], strict=True)
            ]
    note = note_of(len(first), len(images), note, _IOU if any(map(any, scores.values())) else "")
    handles = _class_legend([label for own in shown.values() for label in own], class_names)
    figure, panels = grid(columns, True, {**scores, **captions}, handles, note)
    for title, drawn in shown.items():
        for axes, label in zip(panels[title], drawn, strict=True):
            _outline(axes, label, len(class_names))
    return figure


@style
def nroi_clusters(images: Maps, assignments: Maps) -> Figure:
    """Plot images and, below them, the images under their background clusters.

    Args:
        images: N images [3, H, W] in [0, 1], of which at most the first `MAX_COLUMNS` are drawn.
        assignments: N maps [h, w] of the image's own cluster numbers; -1 = not background (left clear).
    """
    check_number(images, assignments)
    palette = class_colours(len(CATEGORICAL))
    pairs = list(pairs_of(images[:MAX_COLUMNS], assignments[:MAX_COLUMNS]))
    over = [_blend(photo, palette[own % len(palette)], own >= 0) for photo, own in pairs]
    strips = {"image": [photo for photo, _ in pairs], "clusters": over}
    text = (
        "Clusters of the background (NROIs), a colour for each cluster of an image; without colour: objects."
    )
    return grid(strips, note=note_of(len(pairs), len(images), text))[0]


def _outline(axes: Axes, label: NDArray[np.int64], num_classes: int) -> None:
    """Draw the boundaries of a label map's classes, and hatch what is ignored."""
    colours = class_colours(num_classes).tolist()
    for number in np.unique(label[(label > 0) & (label != IGNORE)]):
        outline(axes, label == number, colours[number - 1])
    hatch(axes, label == IGNORE)


def _iou_text(score: SegmentationScore, label: NDArray[np.int64], truth: NDArray[np.int64]) -> str:
    """What is below a label map; nothing if the truth is 255 everywhere."""
    value = image_iou(score.count(torch.from_numpy(label), torch.from_numpy(truth)))
    return "" if math.isnan(value) else f"IoU {value:.1f}"


def _painted(
    photo: NDArray[np.floating], label: NDArray[np.int64], class_names: Sequence[str]
) -> NDArray[np.floating]:
    """A photo [H, W, 3] under the colours of its label map [H, W]."""
    wrong = label[(label > len(class_names)) & (label != IGNORE) | (label < 0)]
    if wrong.size:
        raise InputError(f"the label {wrong[0]} has no name: {len(class_names)} foreground classes are named")
    table = np.ones((IGNORE + 1, 3))
    table[1 : len(class_names) + 1] = class_colours(len(class_names))
    return _blend(photo, table[label], label != 0)


def _blend(
    photo: NDArray[np.floating], colours: NDArray[np.float64], where: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Overlay colours [H, W, 3] on an image [H, W, 3] converted to grey, so that they stand out."""
    grey = photo.mean(-1, keepdims=True)
    return np.where(where[..., None], (1 - _OPACITY) * grey + _OPACITY * colours, photo)


def _class_legend(labels: Sequence[NDArray[np.int64]], class_names: Sequence[str]) -> list[Patch]:
    """The colours of the classes in some label maps, and of ignored pixels."""
    present = sorted({int(value) for label in labels for value in np.unique(label)} - {0})
    colours = class_colours(len(class_names))
    patches = [
        Patch(facecolor=colours[value - 1], edgecolor=INK, linewidth=0.5, label=class_names[value - 1])
        for value in present
        if value != IGNORE
    ]
    if IGNORE in present:
        patches.append(ignored_patch())
    return patches
