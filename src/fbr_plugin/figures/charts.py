"""Charts: heat maps, loss curves, histograms, the threshold sweep, precision and recall."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.errors import InputError
from fbr_plugin.figures.canvas import INK, MAX_HEIGHT, style
from fbr_plugin.figures.grid import text_width
from fbr_plugin.figures.palette import METHODS

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps and values of the same length."""


_MAX_NUMBERED = 21  # most rows of a heat map with room for numbers: 20 classes and the background
_MAX_NAMED = 45  # most names beside it


@style
def semantic_graph(graph: Tensor, class_names: Sequence[str]) -> Figure:
    """Plot the semantic graph as a heat map; rows of classes without negatives stay grey.

    There are numbers for up to 21 classes. Of more than 45, only every second or third name has room.

    Args:
        graph: [C, C]; row c holds the probability with which each class is sampled as a negative of c.
        class_names: names of the C foreground classes; those of more than two lines are shortened.
    """
    count = len(class_names)
    if graph.shape != (count, count):
        raise InputError(f"the graph is {list(graph.shape)}, but {count} foreground classes are named")
    values = graph.detach().float().cpu().numpy()
    figure, axes = _heat_map(values, class_names, "{:.2f}", "probability of being sampled")
    axes.set(title="Semantic graph", xlabel="class of the negative", ylabel="class of the query")
    return figure


@style
def confusion_matrix(confusion: Tensor, class_names: Sequence[str], title: str) -> Figure:
    """Plot the shares of each true class's pixels by prediction; rows of classes without pixels stay grey.

    There are numbers for up to 20 classes. Of more than 44, only every second or third name has room.

    Args:
        confusion: [1+C, 1+C] or more columns: pixels by truth and prediction, background first.
        class_names: names of the C foreground classes.
        title: of the figure.
    """
    counts = confusion[:, : len(confusion)].double().cpu()
    shares = 100 * counts / confusion.double().cpu().sum(1, keepdim=True).clamp_min(1)
    figure, axes = _heat_map(shares.numpy(), ["background", *class_names], "{:.0f}", "% of the true pixels")
    axes.set(title=title, xlabel="prediction", ylabel="truth")
    return figure


@style
def histograms(shown: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]]) -> Figure:
    """Plot histograms side by side.

    Args:
        shown: title -> N counts, and the N+1 edges of their bins.
    """
    figure = Figure(figsize=(3.1 * len(shown), 2.4))
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (title, (counts, edges)) in zip(panels, shown.items(), strict=True):
        axes.stairs(counts / max(counts.sum(), 1e-12), edges, fill=True, color=METHODS[0])
        axes.set(title=title, ylabel="share")
    return figure


@style
def loss_curves(curves: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Plot a panel per loss term and a line per method: faint as logged, strong as smoothed.

    Each line is thinner than the one before, so that equal curves remain visible.

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
        coloured = zip(cycle(METHODS), curves.values(), strict=False)
        own = [(colour, *series[term]) for colour, series in coloured if term in series]
        for width, (colour, steps, values) in zip(range(len(own), 0, -1), own, strict=True):
            panel.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            panel.plot(steps, _smoothed(values), color=colour, linewidth=1.6 * width)
    for panel in panels[len(terms) :]:
        panel.set_visible(False)
    handles = [Patch(color=colour, label=name) for colour, name in zip(cycle(METHODS), curves, strict=False)]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    return figure


@style
def threshold_sweep(
    thresholds: Sequence[float], miou: Mapping[str, Sequence[float]], marks: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Plot mIoU against the background threshold.

    Args:
        thresholds: T background thresholds, ascending.
        miou: method -> T values in percent.
        marks: method -> kind of threshold ("oracle", "label_free") -> threshold.
    """
    figure = Figure(figsize=(7.2, 3.2))
    axes = figure.subplots()
    for colour, (name, values) in zip(cycle(METHODS), miou.items(), strict=False):
        axes.plot(thresholds, values, color=colour, linewidth=1.8, label=name)
        for marker, (choice, chosen) in zip("*osD^", marks.get(name, {}).items(), strict=False):
            value = float(np.interp(chosen, thresholds, values))
            kind, size = choice.replace("_", "-"), 13 if marker == "*" else 8
            label = f"{kind} threshold {chosen:.3f}: {value:.1f}"
            axes.plot(chosen, value, marker, c=colour, ms=size, mec="white", ls="", zorder=3, label=label)
    axes.set(title="Seed quality", xlabel="background threshold", ylabel="mIoU (%)")
    axes.grid(axis="y", color="#e8e8e8")
    figure.legend(loc="outside right upper")
    return figure


@style
def precision_recall(
    thresholds: Sequence[float],
    precision: Sequence[float],
    recall: Sequence[float],
    chosen: float,
    title: str,
) -> Figure:
    """Plot precision against recall over the thresholds of score maps.

    Args:
        thresholds: T thresholds, ascending.
        precision: T values in percent; nan is left out.
        recall: T values in percent.
        chosen: a threshold to be marked.
        title: of the figure.
    """
    figure = Figure(figsize=(4.4, 3.4))
    axes = figure.subplots()
    axes.plot(recall, precision, color=METHODS[0], linewidth=1.8)
    point = tuple(float(np.interp(chosen, thresholds, values)) for values in (recall, precision))
    axes.plot(*point, "*", c=METHODS[0], ms=13, mec="white", ls="", zorder=3, label=f"threshold {chosen:.3f}")
    axes.set(title=title, xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 100), ylim=(0, 101))
    axes.grid(color="#e8e8e8")
    axes.legend(loc="lower left")
    return figure


def _heat_map(
    values: NDArray[np.floating], names: Sequence[str], form: str, unit: str
) -> tuple[Figure, Axes]:
    """A heat map of named rows and columns, with numbers where they fit; rows of zeros stay grey."""
    count = len(names)
    numbered, every = count <= _MAX_NUMBERED, math.ceil(count / _MAX_NAMED)
    points = 9 if count <= 12 else 7 if numbered else 6
    names = [fill(name, 24, max_lines=2, placeholder=" …") for name in names[::every]]
    beside = max(text_width(name, points) for name in names)
    height = min(MAX_HEIGHT, 0.7 + 0.42 * count + beside)
    figure = Figure(figsize=(height + 1.2, height))
    axes = figure.subplots()
    axes.set_facecolor("#e8e8e8")
    empty = np.broadcast_to(values.sum(1, keepdims=True) == 0, values.shape)
    heat = axes.imshow(np.ma.array(values, mask=empty), cmap="Blues", vmin=0, vmax=values.max() or 1)
    size = 7 if count <= 12 else 6
    for row, column in zip(*np.nonzero(values), strict=True) if numbered else ():
        colour = "white" if values[row, column] > 0.6 * values.max() else INK
        number = form.format(values[row, column])
        axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=size)
    angle, anchor = (45, "top") if numbered else (90, "center")
    places = range(0, count, every)
    axes.set_xticks(places, names, rotation=angle, va=anchor, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.tick_params(length=0, labelsize=points)
    axes.spines[:].set_visible(False)
    figure.colorbar(heat, ax=axes, shrink=0.8, label=unit, aspect=30)
    return figure, axes


def _smoothed(values: Sequence[float]) -> NDArray[np.float64]:
    """Running mean over a window that is a twentieth of the curve wide."""
    window = np.ones(max(1, len(values) // 20))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
