"""Figures of images with their instances."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from fbr_plugin.figures.canvas import INK, style
from fbr_plugin.figures.grid import MAX_ROWS, Maps, check_number, grid, note_of, photo_arrays
from fbr_plugin.figures.marks import outline
from fbr_plugin.figures.palette import class_colours, instance_colours
from fbr_plugin.instances import Instances
from fbr_plugin.metrics.instances import match, without_ignored

_FILL = 0.5  # opacity of an instance
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
_LEAST = 0.05  # score of the instances that are drawn
_OVERLAP = (
    "IoU in %: mean over the true instances of the largest IoU with an instance of the same class. "
    "Instances of one class have shades of its colour."
)


@style
def instances_over_images(
    images: Maps,
    methods: Mapping[str, Sequence[Instances]],
    class_names: Sequence[str],
    captions: Mapping[str, Sequence[str]] = {},
    note: str = "",
) -> Figure:
    """Plot one row per image: the image, and its instances by each method, outlined in shades of their class.

    Instances with a score under 0.05 are left out. If there is a column "truth", the IoU of an image is
    below the others: the mean over the true instances of the largest IoU with one of the same class.

    Args:
        images: N images [3, H, W] in [0, 1], of which at most the first `MAX_ROWS` are drawn.
        methods: title -> N images' instances, with masks [n, H, W].
        class_names: names of the foreground classes.
        captions: title of a column, "image" among them -> N texts below its pictures.
        note: text above the legend, such as the rule by which the images were chosen.
    """
    for own in methods.values():
        check_number(images, own)
    photos = photo_arrays(images[:MAX_ROWS])
    shown = {title: [_visible(each) for each in own[:MAX_ROWS]] for title, own in methods.items()}
    scores = {}
    if "truth" in methods:
        others = {title: own[:MAX_ROWS] for title, own in methods.items() if title != "truth"}
        truths = methods["truth"][:MAX_ROWS]
        scores = {title: [*map(_overlap, own, truths)] for title, own in others.items()}
    present = sorted({label for own in shown.values() for each in own for label in each["labels"].tolist()})
    colours = class_colours(len(class_names))
    legend = [
        Patch(facecolor=colours[number - 1], edgecolor=INK, linewidth=0.5, label=class_names[number - 1])
        for number in present
    ]
    columns = {"image": photos, **dict.fromkeys(methods, photos)}
    note = note_of(len(photos), len(images), note, _OVERLAP if scores else "")
    figure, panels = grid(columns, True, {**scores, **captions}, legend, note)
    for title, own in shown.items():
        for axes, instances in zip(panels[title], own, strict=True):
            _draw(axes, instances, len(class_names))
    return figure


def _visible(instances: Instances) -> Instances:
    """The instances that are not empty and whose score is not low, the largest first."""
    sizes = instances["masks"].flatten(1).sum(1)
    kept = sizes > 0
    if "scores" in instances:
        kept &= instances["scores"] >= _LEAST
    order = sizes.argsort(descending=True, stable=True)
    order = order[kept[order]]
    shown: Instances = {"masks": instances["masks"][order], "labels": instances["labels"][order]}
    if "scores" in instances:
        shown["scores"] = instances["scores"][order]
    return shown


def _overlap(found: Instances, truth: Instances) -> str:
    """What is below the instances of an image; nothing if there are no true ones."""
    scored: Instances = {**found, "scores": torch.ones(len(found["labels"]))}  # the overlap needs none
    best = match(*without_ignored(scored, truth))[1].mean().item()
    return "" if math.isnan(best) else f"IoU {100 * best:.1f}"


def _draw(axes: Axes, instances: Instances, num_classes: int) -> None:
    """Draw the instances of an image, the largest below."""
    masks, labels = instances["masks"].cpu().numpy(), instances["labels"].tolist()
    rim = [withStroke(linewidth=1.5, foreground="black")]
    for number, colour in enumerate(instance_colours(labels, num_classes)):
        mask = masks[number]
        layer = np.zeros((*mask.shape, 4))
        layer[mask] = (*colour, _FILL)
        axes.imshow(layer)
        outline(axes, mask, colour)
        if "scores" in instances:
            rows, columns = mask.nonzero()
            nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()  # a pixel of the mask
            place = columns[nearest], rows[nearest]
            text = f"{instances['scores'][number]:.2f}"
            axes.text(*place, text, clip_on=True, fontsize=7, color="white", path_effects=rim, **_CENTRED)
