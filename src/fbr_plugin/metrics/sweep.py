"""Shared parts of metrics over background thresholds: quantised scores, one histogram for all thresholds."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fbr_plugin.errors import InputError, InputTypeError

IGNORE = 255
BACKGROUND_THRESHOLDS = tuple(
    step / 1000 for step in (*range(10), *range(10, 30, 2), *range(30, 100, 5), *range(100, 1000, 10))
)
"""The 124 background thresholds: 0 to .99 in steps of .01, and finer ones below .1.

A gate multiplies scores, so that the best thresholds of gated seeds differ by factors. From .01 on, a step
is at most a fifth of the threshold (.002 up to .03, .005 up to .1); below, it is .001. The usual sweep ends
at .59, below the best threshold of AMN's seeds."""


def check_num_classes(num_classes: int) -> int:
    """Return the number of foreground classes if 8-bit label images can hold them besides 0 and 255."""
    if not 1 <= num_classes < IGNORE:
        raise InputError(f"num_classes must be 1 to {IGNORE - 1} foreground classes, got {num_classes}")
    return num_classes


def check_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    """Return the background thresholds as floats, if there are any and they ascend within [0, 1]."""
    values = tuple(float(threshold) for threshold in thresholds)
    ascending = all(low < high for low, high in pairwise(values))
    if not values or not ascending or not all(0 <= value <= 1 for value in values):
        raise InputError(f"thresholds must be one or more numbers in [0, 1] in ascending order, got {values}")
    return values


def check_labels(labels: Tensor, num_classes: int, name: str) -> None:
    """Raise unless every value of a label image is a class from 0 to `num_classes` or 255.

    Args:
        labels: integers of any shape.
        num_classes: number of foreground classes.
        name: name of the label image in errors.
    """
    if labels.is_floating_point() or labels.is_complex():
        raise InputTypeError(f"{name} must hold integer class numbers, got {labels.dtype}")
    wrong = (labels > num_classes) & (labels != IGNORE) | (labels < 0)
    if wrong.any():
        raise InputError(
            f"{name} holds the value {int(labels[wrong][0])}: classes are 0 (background) to {num_classes}, "
            f"{IGNORE} is ignored; is num_classes={num_classes} right?"
        )


def check_seed(seed: Tensor, num_classes: int, name: str = "seed") -> None:
    """Raise unless a seed is finite and has one channel for each foreground class.

    Args:
        seed: [..., C, H, W] scores.
        num_classes: number of foreground classes C.
        name: name of the seed in errors.
    """
    if seed.ndim < 3 or seed.shape[-3] != num_classes:
        raise InputError(
            f"{name} must be [C, H, W] or [B, C, H, W] with C={num_classes} foreground channels (leave out "
            f"a background channel), got {tuple(seed.shape)}"
        )
    if not seed.isfinite().all():
        raise InputError(f"{name} holds NaN or infinite scores: after a training, lower its learning rates")


def threshold_bins(scores: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Quantise scores so that `bins > t` holds exactly where `scores > thresholds[t]`.

    Args:
        scores: scores of any shape.
        thresholds: T background thresholds, ascending.

    Returns:
        int64 bins from 0 to T of the same shape: how many thresholds lie strictly below the score.
    """
    return torch.bucketize(
        scores.float(), torch.tensor(thresholds, dtype=torch.float32, device=scores.device)
    )


def top_class_bins(seed: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return the best class of a seed and its bin, which determine the prediction at every threshold.

    The prediction at threshold t is `1 + best` where `bins > t`, and background elsewhere; a seed without
    channels is all background.

    Args:
        seed: [..., C, H, W] scores.
        thresholds: T background thresholds, ascending.

    Returns:
        best: [..., H, W] int64, 0-based foreground class of the largest score.
        bins: [..., H, W] int64, its bin from 0 to T.
    """
    if not seed.shape[-3]:
        nothing = torch.zeros(seed.shape[:-3] + seed.shape[-2:], dtype=torch.int64, device=seed.device)
        return nothing, nothing
    score, best = seed.max(-3)
    return best, threshold_bins(score, thresholds)


def histogram(bins: Tensor, num_bins: int, group: Tensor, num_groups: int) -> Tensor:
    """Count bins within groups.

    Args:
        bins: [N] int64 bins.
        num_bins: number of bins.
        group: [N] int64 group of each entry.
        num_groups: number of groups.

    Returns:
        [num_groups, num_bins] int64 counts.
    """
    return torch.bincount(group * num_bins + bins, minlength=num_groups * num_bins).view(num_groups, num_bins)


def count_above(counts: Tensor) -> Tensor:
    """Turn histograms over bins into the number of entries above each threshold.

    Args:
        counts: [..., T+1] histograms over the bins of `threshold_bins`.

    Returns:
        [..., T] entries whose score exceeds threshold t.
    """
    return counts.sum(-1, keepdim=True) - counts.cumsum(-1)[..., :-1]
