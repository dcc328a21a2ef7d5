"""Pictures in rows or columns, with titles, texts, a legend and a note, at most a screen high."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.errors import InputError
from fbr_plugin.figures.canvas import MAX_HEIGHT

Maps = Tensor | Sequence[Tensor]
"""One tensor [N, ...], or N tensors [...] if the images differ in size."""

MAX_ROWS = 5
"""Most images of a figure with a row for each."""

MAX_COLUMNS = 10
"""Most images of a figure with a column for each."""

_CELL, _SMALLEST = 1.9, 0.4  # inches of the longer side of a picture, at most and at least
_NARROWEST, _WIDEST = 3.2, 12.8  # inches of a figure; a screen is 1920 pixels wide
_ENTRIES = 6  # names in a column of a legend, if there is room for more columns
_TITLE, _TEXT, _LEGEND = 9.5, 7.0, 8.0  # points of titles, of texts and notes, and of a legend
_HANDLE = 0.5  # inches beside a name in a legend
_COLUMN = 1.0  # inches of the narrowest column, in which "refinement" is not broken
_HINTED = 1.06  # a text on whole pixels is wider than its outlines
_PAD = 0.03  # inches around each picture, text and legend


def photo_arrays(images: Maps) -> list[NDArray[np.floating]]:
    """N images [3, H, W] in [0, 1] as [H, W, 3] for matplotlib."""
    return [image.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy() for image in images]


def check_number(images: Maps, maps: Sequence[object] | Tensor) -> None:
    """Raise unless there is a map for each image."""
    if len(images) != len(maps):
        raise InputError(f"there are {len(images)} images but {len(maps)} maps; give one map per image")


def note_of(shown: int, total: int, *sentences: str) -> str:
    """A note of some sentences, and how many images are left out."""
    left_out = f"The first {shown} of {total} images." if shown < total else ""
    return " ".join(filter(None, (*sentences, left_out)))


def grid(
    strips: Mapping[str, Sequence[NDArray[np.floating]]],
    vertical: bool = False,
    captions: Mapping[str, Sequence[str]] = {},
    legend: Sequence[Artist] = (),
    note: str = "",
) -> tuple[Figure, dict[str, list[Axes]]]:
    """Plot titled strips of pictures, one below the other, or as columns side by side.

    The pictures are as large as fits: the figure is never higher than `MAX_HEIGHT`.

    Args:
        strips: title -> N pictures [H, W, 3] in [0, 1].
        vertical: whether strips are columns.
        captions: title -> N texts below the pictures.
        legend: artists with labels, explained below the pictures.
        note: text above the legend.

    Returns:
        The figure, and the axes of each strip.
    """
    count = max(map(len, strips.values()))
    down, across = (count, len(strips)) if vertical else (len(strips), count)
    # As high and wide as the pictures need whose longer side is 1.
    sizes = np.array([[picture.shape[:2] for picture in pictures] for pictures in strips.values()])
    sizes = sizes / sizes.max(-1, keepdims=True)
    heights, width = sizes[..., 0].max(0) if vertical else [sizes[..., 0].max()] * down, sizes[..., 1].max()
    texts = list(zip_longest(*captions.values(), fillvalue="")) if vertical else list(captions.values())
    beside = 0 if vertical else 0.25  # inches of the titles of rows
    cell = _CELL  # inches of the longer side of a picture
    for _ in range(3):  # smaller pictures break their texts into more lines
        column = max(_COLUMN, cell * width)
        room = (column + 2 * _PAD) * across + beside
        below = _legend_of(legend, note, max(_NARROWEST, room))
        fixed = 2 * _PAD * down + below.height
        if vertical:
            fixed += _height(strips, column, _TITLE, "bold")
        fixed += sum(_height(row, column, _TEXT) for row in texts)
        widest = ((_WIDEST - beside) / across - 2 * _PAD) / width
        cell = max(_SMALLEST, min(_CELL, (MAX_HEIGHT - fixed) / sum(heights), widest))
    size = max(room, below.width), min(MAX_HEIGHT, cell * sum(heights) + fixed)
    # Compressed, rows of several heights would leave gaps, and titles of narrow pictures would meet.
    spread = np.ptp(heights) > 0 or (vertical and column > cell * width)
    engine = ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD, wspace=0, hspace=0, compress=not spread)
    figure = Figure(figsize=size, layout=engine)
    cells = figure.subplots(down, across, squeeze=False, height_ratios=heights)
    panels = dict(zip(strips, map(list, cells.T if vertical else cells), strict=True))
    for title, pictures in strips.items():
        if vertical:
            name = _wrapped(title, column, _TITLE, "bold")
            panels[title][0].set_title(name, loc="center", fontsize=_TITLE)
        else:
            panels[title][0].set_ylabel(title, loc="center", fontsize=_TITLE, fontweight="bold")
        for axes, picture in zip(panels[title], pictures, strict=True):
            axes.imshow(picture)
            axes.set(xticks=(), yticks=(), autoscale_on=False)
            axes.spines[:].set_visible(False)
        for axes, text in zip(panels[title], captions.get(title, ()), strict=False):
            axes.set_xlabel(_wrapped(text, column, _TEXT), fontsize=_TEXT, labelpad=2)
    if legend:
        names: dict[str, Any] = {"handles": legend, "labels": below.names, "ncols": below.columns}
        names |= {"title": below.note, "title_fontsize": _TEXT, "fontsize": _LEGEND}
        figure.legend(**names, loc="outside lower center", borderaxespad=0)
    elif note:
        figure.supxlabel(below.note, fontsize=_TEXT)
    if below.width > room:
        engine.execute(figure)  # in a figure wider than its pictures, one pass leaves titles outside
    return figure, panels


class _Legend(NamedTuple):
    """A legend and its note, broken into lines and columns, and their size in inches."""

    names: list[str]
    columns: int
    note: str
    width: float
    height: float


def _legend_of(handles: Sequence[Artist], note: str, room: float) -> _Legend:
    """Lay out a legend in a figure that is so many inches wide, or wider if there are many names."""
    longest = max(room, _WIDEST / 2) - _HANDLE
    names = [_wrapped(str(handle.get_label()), longest, _LEGEND) for handle in handles]
    entry = _HANDLE + max((text_width(name, _LEGEND) for name in names), default=0)
    room = max(room, min(_WIDEST, entry * math.ceil(len(names) / _ENTRIES)))
    columns = max(1, min(len(names), int(room / entry)))
    down = math.ceil(len(names) / columns)
    heights = [_height([name], room, _LEGEND) + _PAD for name in names]
    height = max((sum(heights[start : start + down]) for start in range(0, len(names), down or 1)), default=0)
    lines = _wrapped(note, room - 0.2, _TEXT)
    return _Legend(names, columns, lines, room, height + _height([lines], room, _TEXT) + 2 * _PAD)


def _height(texts: Iterable[str], inches: float, points: float, weight: str = "normal") -> float:
    """The inches of the highest of some texts, broken into lines of so many inches."""
    broken = (_wrapped(text, inches, points, weight) for text in texts)
    lines = max((text.count("\n") + 1 for text in broken if text), default=0)
    return lines * 1.4 * points / 72 + _PAD / 2 * bool(lines)


@lru_cache(4096)
def text_width(text: str, points: float, weight: str = "normal") -> float:
    """The inches of the widest line of a text."""
    font = FontProperties(size=points, weight=weight)
    widths = [text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.split("\n")]
    return _HINTED * float(max(widths)) / 72


def _wrapped(text: str, inches: float, points: float, weight: str = "normal") -> str:
    """A text broken into lines of at most so many inches; its own line breaks remain."""
    return "\n".join(_broken(line, inches, points, weight) for line in text.split("\n"))


def _broken(line: str, inches: float, points: float, weight: str) -> str:
    """A line of text, broken where it must be."""
    characters, result = len(line), line
    while characters > 1 and (width := text_width(result, points, weight)) > inches:
        characters = min(characters - 1, int(characters * max(inches / width, 0.5)))
        result = fill(line, max(1, characters))
    return result
