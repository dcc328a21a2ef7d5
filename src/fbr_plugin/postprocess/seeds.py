"""Seeds, the scores of an image's classes, and labels made from them by two thresholds."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.errors import InputError, check_label_thresholds
from fbr_plugin.functional import min_max


class Seed(NamedTuple):
    """Scores of the classes of one image.

    Attributes:
        keys: int64 [M], the 0-based foreground classes of the image.
        scores: float32 [M, H, W], their scores.
        background: float32 [H, W], score of the background; None if it has none.
    """

    keys: NDArray[np.int64]
    scores: NDArray[np.float32]
    background: NDArray[np.float32] | None = None

    @classmethod
    def from_dense(cls, scores: Tensor, label: Tensor) -> "Seed":
        """Select the classes of an image from the scores of all classes.

        Args:
            scores: [C, H, W], or [1+C, H, W] with the background first.
            label: [C] image labels in {0, 1}.
        """
        extra = len(scores) - len(label)
        if scores.ndim != 3 or extra not in (0, 1):
            raise InputError(
                f"scores must be [C, H, W] or [1+C, H, W] with C={len(label)}, got {tuple(scores.shape)}"
            )
        present = label > 0
        maps = scores.detach().float().cpu().numpy()
        keys = present.nonzero()[:, 0].cpu().numpy()
        return cls(keys, maps[keys + extra], maps[0] if extra else None)


def background_scores(scores: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """The background (1 - best score) ** power, as in SEAM's and EPS's released code.

    Args:
        scores: [M, H, W] scores of the image's classes.
        power: the larger, the less background; EPS 8, SEAM 4 and 24 for labels and 6 for masks.

    Returns:
        [H, W] in [0, 1].
    """
    if not power > 0:
        raise InputError(f"the power of a background must be above 0, got {power}")
    best: NDArray[np.float32] = scores.max(0, initial=0).clip(0, 1)
    return (1 - best) ** power


def threshold_labels(seed: Seed, fg: float, bg: float) -> NDArray[np.uint8]:
    """Labels [H, W] of the pixels whose class is clear from the seed.

    Args:
        seed: scores of one image.
        fg: a pixel whose best score exceeds this gets its class.
        bg: a pixel whose best score is at most this is background; those in between are 255.
    """
    check_label_thresholds(fg, bg)
    if not len(seed.keys):
        return np.zeros(seed.scores.shape[1:], np.uint8)
    if seed.keys.max() + 1 >= IGNORE:
        raise InputError(
            f"class {seed.keys.max() + 1} does not fit into a label: these hold the classes 1 to {IGNORE - 1}"
        )
    best, classes = seed.scores.max(0), (seed.keys + 1)[seed.scores.argmax(0)]
    return np.where(best > fg, classes, np.where(best > bg, IGNORE, 0)).astype(np.uint8)


class LabelledPixels:
    """Whether the label images of a folder have pixels of a class, and pixels of the background.

    Args:
        folder: the folder, for warnings.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = 0
        self.classes = self.background = False

    def add(self, classes: bool, background: bool) -> None:
        """Count an image in which there are such pixels or not."""
        self.images += 1
        self.classes |= classes
        self.background |= background

    def warn(self) -> None:
        """Warn if not one pixel is of a class, or not one of the background."""
        kinds = {"of a class": (self.classes, "lower"), "background": (self.background, "raise")}
        for kind, (found, remedy) in kinds.items():
            if self.images and not found:
                warnings.warn(
                    f"not one pixel of the {self.images} images labelled in {self.folder} is {kind}: "
                    f"{remedy} the threshold",
                    stacklevel=2,
                )


def kinds_of(labels: NDArray[np.uint8]) -> tuple[bool, bool]:
    """Whether labels [H, W] have pixels of a class, and pixels of the background."""
    return bool(((labels > 0) & (labels != IGNORE)).any()), bool((labels == 0).any())


def logits_to_seeds(logits: Tensor, label: Tensor, pseudo_label: Tensor | None = None) -> Tensor:
    """Turn logits into AMN's seeds: probabilities, normalised where the training label is not background.

    As in AMN's `make_amn_cam.py` (commit dca2cbb), the seed is the softmax over all classes; where the
    two-threshold label is not background, it is the min-max normalised map instead.

    Args:
        logits: [B, 1+C, H, W], background first.
        label: [B, C] image labels in {0, 1}.
        pseudo_label: [B, H, W] labels 0 to C, or 255; None normalises nothing.

    Returns:
        [B, 1+C, H, W] in [0, 1], 0 for classes that the image lacks.
    """
    present = torch.cat([torch.ones_like(label[:, :1]), label], 1)[:, :, None, None]
    maps = logits.softmax(1) * present
    if pseudo_label is None:
        return maps
    return torch.where(pseudo_label[:, None] != 0, min_max(maps), maps)
