"""True masks of 20 classes, damaged in known ways."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.images import IGNORE

Mask = NDArray[np.uint8]


def eroded(mask: Mask) -> Mask:
    """Every class without the border of 4 pixels of its regions."""
    square = np.ones((9, 9), np.uint8)
    kept = np.zeros_like(mask)
    for index in {*np.flatnonzero(np.bincount(mask.ravel())).tolist()} - {0, IGNORE}:
        kept[cv2.erode((mask == index).astype(np.uint8), square, borderValue=0) > 0] = index
    return kept


def shifted(mask: Mask) -> Mask:
    """All classes 3 pixels down and 5 to the right."""
    return np.roll(np.where(mask == IGNORE, 0, mask), (3, 5), (0, 1))


def relabelled(mask: Mask) -> Mask:
    """A tenth of the pixels with another of 21 classes."""
    rng = np.random.default_rng(mask.sum(dtype=int))
    known = np.where(mask == IGNORE, 0, mask)
    wrong = (known + rng.integers(1, 21, mask.shape, np.uint8)) % 21
    return np.where(rng.integers(0, 10, mask.shape, np.uint8) == 0, wrong, known)


DAMAGES: tuple[Callable[[Mask], Mask], ...] = (eroded, shifted, relabelled)
