"""Figures of images with their instances."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from fbr_plugin.figures.canvas import style
from fbr_plugin.figures.overlays import CATEGORICAL, Maps, grid, photo_arrays
from fbr_plugin.instances import Instances

_FILL = 0.45  # opacity of an instance
_LEAST = 0.05  # score of the instances that are drawn


@style
def instances_over_images(
    images: Maps,
    methods: Mapping[str, Sequence[Instances]],
    class_names: Sequence[str],
    captions: Mapping[str, Sequence[str]] = {},
) -> Figure:
    """Plot one row per image: the image, and its instances by each method, outlined and named.

    Instances with a score under 0.05 are left out.

    Args:
        images: N images [3, H, W] in [0, 1].
        methods: title -> N images' instances, with masks [n, H, W].
        class_names: names of the foreground classes.
        captions: title of a column, "image" among them -> N texts below its pictures.
    """
    photos = photo_arrays(images)
    columns = {"image": photos, **dict.fromkeys(methods, photos)}
    figure = grid(columns, vertical=True, captions=captions)
    cells = np.array(figure.axes).reshape(len(photos), len(columns))
    for column, found in enumerate(methods.values(), start=1):
        for axes, instances in zip(cells[:, column], found, strict=True):
            _draw(axes, instances, class_names)
    return figure


def _draw(axes: Axes, instances: Instances, class_names: Sequence[str]) -> None:
    """Draw the instances of an image, the largest below."""
    masks, labels = instances["masks"].cpu().numpy(), instances["labels"].tolist()
    scores = instances["scores"].tolist() if "scores" in instances else [None] * len(labels)
    sizes = masks.sum((1, 2))
    for number in np.argsort(-sizes, kind="stable"):
        mask, score = masks[number], scores[number]
        if not sizes[number] or (score is not None and score < _LEAST):
            continue
        colour = to_rgb(CATEGORICAL[number % len(CATEGORICAL)])
        axes.imshow(np.concatenate([np.broadcast_to(colour, (*mask.shape, 3)), mask[..., None] * _FILL], 2))
        limits = axes.get_xlim(), axes.get_ylim()
        axes.contour(
            np.pad(mask, 1),
            [0.5],
            colors=[colour],
            linewidths=1.2,
            extent=(-1, mask.shape[1], -1, mask.shape[0]),
        )
        axes.set(xlim=limits[0], ylim=limits[1])
        rows, pixels = mask.nonzero()
        name = class_names[labels[number] - 1]
        text = name if score is None else f"{name} {score:.2f}"
        outline = [withStroke(linewidth=1.5, foreground="black")]
        where: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontsize": 6,
            "color": "white",
            "path_effects": outline,
        }
        axes.text(pixels.mean(), rows.mean(), text, clip_on=True, **where)
