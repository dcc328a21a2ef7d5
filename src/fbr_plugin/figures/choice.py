"""Which images a figure shows."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def largest_changes(iou: NDArray[np.float64], choice: Literal["gain", "loss"], number: int) -> list[int]:
    """The images with the largest gain or loss from the first folder to the last, the largest first.

    Args:
        iou: [N, F] of each image and folder; images with nan are left out.
        choice: what to look for.
        number: the most images to return.
    """
    change = iou[:, -1] - iou[:, 0]
    order = np.argsort(-change if choice == "gain" else change, kind="stable")
    return [int(row) for row in order if not np.isnan(change[row])][:number]


def quantile_rows(values: Sequence[float] | NDArray[np.float64], number: int) -> list[int]:
    """Images at evenly spaced quantiles of a value, the lowest first: typical ones, the good and the bad.

    The images are sorted and divided into `number` parts of equal size; each is the one in the middle of its
    part.

    Args:
        values: of each image; images with nan are left out.
        number: the most images to return.
    """
    order = [int(row) for row in np.argsort(values, kind="stable") if not np.isnan(values[row])]
    parts = min(number, len(order))
    return [order[(2 * part + 1) * len(order) // (2 * parts)] for part in range(parts)]


def random_rows(total: int, number: int, seed: int) -> list[int]:
    """At most `number` of `total` images, drawn at random and in their order."""
    drawn = np.random.default_rng(seed).permutation(total)[:number]
    return sorted(map(int, drawn))
