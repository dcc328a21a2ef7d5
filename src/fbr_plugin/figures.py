"""Figures of label maps, background clusters, the semantic graph and curves: tensors in, a Figure out."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.data.images import IGNORE, voc_palette

Maps = Tensor | Sequence[Tensor]
"""One tensor [N, ...], or N tensors [...] where the images differ in size."""
Curve = tuple[Sequence[float], Sequence[float]]
"""Steps and values, of one length."""

_OPACITY = 0.65  # of colours over an image
_CELL = 1.9  # inches of an image's side
_MAX_NUMBERED = 25  # classes up to which a heat map has room for numbers
_METHODS = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#c44e52", "#937860")
_CLUSTERS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6")
_INK = "#333333"
_style = matplotlib.rc_context(
    {
        "figure.dpi": 150,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    }
)


@_style
def seeds_over_images(images: Maps, labels: Maps, class_names: Sequence[str]) -> Figure:
    """Draw images and, below them, their label maps laid over them.

    Args:
        images: N images [3, H, W] in [0, 1].
        labels: N label maps [h, w], on a coarser grid if need be, 0 = background (left clear), 255 = ignored.
        class_names: names of the foreground classes.
    """
    over = [_blend(photo, _colours(own, class_names), own != 0) for photo, own in _pairs(images, labels)]
    return _class_legend(_grid({"image": _photos(images), "labels": over}), labels, class_names)


@_style
def examples(images: Maps, truths: Maps, methods: Mapping[str, Maps], class_names: Sequence[str]) -> Figure:
    """Draw a row an image: the image, the true labels and the label map of each method.

    Args:
        images: N images [3, H, W] in [0, 1].
        truths: N label maps [h, w].
        methods: method -> N label maps [h, w].
        class_names: names of the foreground classes.
    """
    columns = {"image": _photos(images)}
    for name, labels in {"truth": truths, **methods}.items():
        columns[name] = [_colours(label, class_names) for _, label in _pairs(images, labels)]
    shown = [label for labels in (truths, *methods.values()) for label in labels]
    return _class_legend(_grid(columns, vertical=True), shown, class_names)


@_style
def boxes_over_images(images: Maps, maps: Maps, boxes: Sequence[Tensor], found: Maps) -> Figure:
    """Draw images with their true boxes (white) and those found (red); below them the score maps.

    Args:
        images: N images [3, H, W] in [0, 1].
        maps: N score maps [H, W] of any range.
        boxes: for each image its true boxes [n, 4]: x0, y0, x1, y1 in pixels of the image.
        found: N boxes [4].
    """
    over = _heat(images, [(score - score.min()) / (score.max() - score.min() or 1) for score in maps])
    figure = _grid({"image": _photos(images), "score map": over})
    for number, (true, drawn) in enumerate(zip(boxes, found, strict=True)):
        for axes in (figure.axes[number], figure.axes[len(over) + number]):
            for colour, own in (("white", true), ("#e6194b", drawn[None])):
                for x0, y0, x1, y1 in own.tolist():
                    corner, wide, high = (x0 - 0.5, y0 - 0.5), x1 - x0 + 1, y1 - y0 + 1
                    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=colour, linewidth=1.4))
    names = {"true": "white", "found": "#e6194b"}
    lines = [Patch(facecolor=colour, edgecolor=_INK, label=name) for name, colour in names.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


@_style
def class_maps(images: Maps, maps: Mapping[str, Maps]) -> Figure:
    """Draw a row an image: the image, and maps of one class laid over it, such as a seed and its gate.

    Args:
        images: N images [3, H, W] in [0, 1].
        maps: title -> N maps [h, w] in [0, 1].
    """
    columns = {"image": _photos(images), **{title: _heat(images, own) for title, own in maps.items()}}
    return _grid(columns, vertical=True)


@_style
def nroi_clusters(images: Maps, assignments: Maps) -> Figure:
    """Draw images and, below them, the background clusters (negative regions of interest) laid over them.

    Args:
        images: N images [3, H, W] in [0, 1].
        assignments: N maps [h, w] of cluster numbers, each image's own; -1 = not background (left clear).
    """
    palette = to_rgba_array(_CLUSTERS)[:, :3]
    pairs = _pairs(images, assignments)
    over = [_blend(photo, palette[own % len(palette)], own >= 0) for photo, own in pairs]
    return _grid({"image": _photos(images), "NROIs": over})


@_style
def semantic_graph(graph: Tensor, class_names: Sequence[str]) -> Figure:
    """Draw the semantic graph as a heat map with numbers; the row of a class without negatives stays grey.

    Args:
        graph: [C, C], row c holds the probability with which each class is drawn as a negative of c.
        class_names: names of the C foreground classes.
    """
    count = len(class_names)
    if graph.shape != (count, count):
        raise ValueError(f"the graph is {list(graph.shape)}, but {count} foreground classes are named")
    values = graph.detach().float().cpu().numpy()
    roomy = count <= _MAX_NUMBERED
    side = 1.4 + 0.42 * min(count, _MAX_NUMBERED)
    figure = Figure(figsize=(side + 1.2, side + 0.3))
    axes = figure.subplots()
    axes.set_facecolor("#e8e8e8")
    empty = np.broadcast_to(values.sum(1, keepdims=True) == 0, values.shape)
    heat = axes.imshow(np.ma.array(values, mask=empty), cmap="Blues", vmin=0, vmax=values.max() or 1)
    for row, column in zip(*np.nonzero(values), strict=True) if roomy else ():
        colour = "white" if values[row, column] > 0.6 * values.max() else _INK
        number = f"{values[row, column]:.2f}"
        axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=7)
    angle, anchor = (45, "top") if roomy else (90, "center")
    axes.set_xticks(range(count), class_names, rotation=angle, va=anchor, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), class_names)
    axes.tick_params(length=0, labelsize=9 if roomy else 6)
    axes.spines[:].set_visible(False)
    axes.set(title="Semantic graph", xlabel="class of the negative", ylabel="class of the query")
    figure.colorbar(heat, ax=axes, shrink=0.8, label="probability")
    return figure


@_style
def loss_curves(curves: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Draw a panel for each loss term and a line for each method: faint as logged, strong as smoothed.

    Args:
        curves: method -> term -> (steps, values).
    """
    terms = list(dict.fromkeys(term for series in curves.values() for term in series))
    across = min(3, max(1, len(terms)))
    down = max(1, math.ceil(len(terms) / across))
    figure = Figure(figsize=(3.1 * across, 2.2 * down + 0.4))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel, term in zip(panels, terms, strict=False):
        panel.set(title=term, xlabel="step")
        for colour, series in zip(cycle(_METHODS), curves.values(), strict=False):
            if term in series:
                steps, values = series[term]
                panel.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
                panel.plot(steps, _smoothed(values), color=colour, linewidth=1.6)
    for panel in panels[len(terms) :]:
        panel.set_visible(False)
    handles = [Patch(color=colour, label=name) for colour, name in zip(cycle(_METHODS), curves, strict=False)]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    return figure


@_style
def threshold_sweep(
    thresholds: Sequence[float], miou: Mapping[str, Sequence[float]], marks: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Draw mIoU against the background threshold.

    Args:
        thresholds: T background thresholds, ascending.
        miou: method -> T values in percent.
        marks: method -> how a threshold was chosen ("oracle", "honest") -> that threshold.
    """
    figure = Figure(figsize=(7.2, 3.2))
    axes = figure.subplots()
    for colour, (name, values) in zip(cycle(_METHODS), miou.items(), strict=False):
        axes.plot(thresholds, values, color=colour, linewidth=1.8, label=name)
        for marker, (choice, chosen) in zip("*osD^", marks.get(name, {}).items(), strict=False):
            value = float(np.interp(chosen, thresholds, values))
            label, size = f"{choice}: {value:.1f} at {chosen:.2f}", 13 if marker == "*" else 8
            axes.plot(chosen, value, marker, c=colour, ms=size, mec="white", ls="", zorder=3, label=label)
    axes.set(title="Seed quality", xlabel="background threshold", ylabel="mIoU (%)")
    axes.grid(axis="y", color="#e8e8e8")
    figure.legend(loc="outside right upper")
    return figure


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure to [H, W, 3] uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, complete or not at all; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(partial, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _pairs(images: Maps, maps: Maps) -> Iterator[tuple[NDArray, NDArray[np.int64]]]:
    """Each image [H, W, 3] with its map of integers, brought to its [H, W]."""
    if len(images) != len(maps):
        raise ValueError(f"there are {len(images)} images but {len(maps)} maps; draw one map for each image")
    for photo, integers in zip(_photos(images), maps, strict=True):
        resized = F.interpolate(integers[None, None].double(), photo.shape[:2], mode="nearest-exact")
        yield photo, resized[0, 0].long().cpu().numpy()


def _photos(images: Maps) -> list[NDArray]:
    """N images [3, H, W] in [0, 1] as the [H, W, 3] that matplotlib draws."""
    return [image.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy() for image in images]


def _heat(images: Maps, maps: Maps) -> list[NDArray]:
    """Each image [H, W, 3] under the colours of its map [h, w] in [0, 1]."""
    photos = _photos(images)
    grown = (
        F.interpolate(own[None, None].double().cpu(), photo.shape[:2], mode="bilinear")[0, 0].numpy()
        for photo, own in zip(photos, maps, strict=True)
    )
    return [
        (1 - _OPACITY) * photo + _OPACITY * colormaps["inferno"](own)[..., :3]
        for photo, own in zip(photos, grown, strict=True)
    ]


def _colours(label: NDArray[np.int64], class_names: Sequence[str]) -> NDArray[np.float64]:
    """A label map [H, W] in colours [H, W, 3]."""
    wrong = label[(label > len(class_names)) & (label != IGNORE) | (label < 0)]
    if wrong.size:
        raise ValueError(f"the label {wrong[0]} has no name: {len(class_names)} foreground classes are named")
    return voc_palette()[label] / 255


def _blend(photo: NDArray, colours: NDArray[np.float64], where: NDArray[np.bool_]) -> NDArray:
    """Lay colours [H, W, 3] over an image [H, W, 3] turned grey, so that they stand out."""
    grey = photo.mean(-1, keepdims=True)
    return np.where(where[..., None], (1 - _OPACITY) * grey + _OPACITY * colours, photo)


def _grid(strips: Mapping[str, Sequence[NDArray]], vertical: bool = False) -> Figure:
    """Draw titled strips of pictures: one below the other, or as columns side by side."""
    count = max(map(len, strips.values()))
    down, across = (count, len(strips)) if vertical else (len(strips), count)
    figure = Figure(figsize=(_CELL * across + 0.2, _CELL * down + 0.3), layout="compressed")
    cells = figure.subplots(down, across, squeeze=False)
    for strip, (title, pictures) in zip(cells.T if vertical else cells, strips.items(), strict=True):
        (strip[0].set_title if vertical else strip[0].set_ylabel)(title, loc="center", fontweight="bold")
        for axes, picture in zip(strip, pictures, strict=True):
            axes.imshow(picture)
            axes.set(xticks=(), yticks=())
            axes.spines[:].set_visible(False)
    return figure


def _class_legend(figure: Figure, labels: Maps, class_names: Sequence[str]) -> Figure:
    """Name the colours of the classes that occur in the label maps."""
    present = sorted({int(value) for label in labels for value in label.unique()} - {0})
    names, colours = {**dict(enumerate(class_names, start=1)), IGNORE: "ignored"}, voc_palette() / 255
    patches = [Patch(facecolor=colours[value], edgecolor=_INK, label=names[value]) for value in present]
    figure.legend(handles=patches, loc="outside lower center", ncols=6)
    return figure


def _smoothed(values: Sequence[float]) -> NDArray[np.float64]:
    """Running mean of a window around each value, a twentieth of the curve wide."""
    window = np.ones(max(1, len(values) // 20))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
