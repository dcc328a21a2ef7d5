"""Panels: what is drawn once, and handed to the run's folder and to all loggers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Histogram = tuple[NDArray[np.floating], NDArray[np.floating]]
"""N counts, and the N+1 edges of their bins."""


class Mask(NamedTuple):
    """A label map over an image.

    Attributes:
        labels: [H, W] uint8.
        names: what each of its numbers stands for.
    """

    labels: NDArray[np.uint8]
    names: Mapping[int, str]


class Overlay(NamedTuple):
    """An image with label maps that can be shown and hidden.

    Attributes:
        photo: [H, W, 3] uint8.
        masks: title -> mask [H, W].
    """

    photo: NDArray[np.uint8]
    masks: Mapping[str, Mask]


class Table(NamedTuple):
    """A table that can be sorted and filtered.

    Attributes:
        columns: their titles.
        rows: one cell for each column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | Overlay | None]]


@dataclass(frozen=True)
class Panel:
    """A figure, and what replaces it where a logger can show more than pictures.

    Args:
        figure: for the run's folder and for all loggers; None if there are only numbers.
        native: overlays, histograms by title or a table, for Weights & Biases; None shows the figure there.
    """

    figure: Figure | None = None
    native: Sequence[Overlay] | Mapping[str, Histogram] | Table | None = None


def mask_names(class_names: Sequence[str]) -> dict[int, str]:
    """What the numbers of a label map stand for."""
    return {0: "background", **dict(enumerate(class_names, start=1)), 255: "ignored"}
