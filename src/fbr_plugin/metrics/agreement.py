"""A background threshold chosen without masks: the one at which two views of an image agree best."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError
from fbr_plugin.metrics.sweep import (
    BACKGROUND_THRESHOLDS,
    check_num_classes,
    check_seed,
    check_thresholds,
    count_above,
    top_class_bins,
)

# Scores are summed as integers in units of 1 / FIXED_POINT: exact in any order and at any module precision.
FIXED_POINT = 2**20
TOLERANCE = 1e-3  # interpolation and half precision exceed [0, 1] by less


class AgreementResult(NamedTuple):
    """Agreement of the views at every background threshold.

    Attributes:
        thresholds: the T background thresholds.
        agreement: agreement at each threshold, in percent.
    """

    thresholds: tuple[float, ...]
    agreement: tuple[float, ...]

    @property
    def threshold(self) -> float:
        """The label-free threshold: that of the best agreement, found without masks."""
        return self.thresholds[self.agreement.index(max(self.agreement))]


class ViewAgreement(Metric):
    """Agreement of the seeds of two views of the same images, such as flipped or rescaled ones.

    The masks of two views agree perfectly at a threshold of 0, where nothing is background, so that their
    overlap, even corrected for chance, always favours a low threshold. Instead, the *mask* of one view is
    compared with the *scores* of the other, read as the probability p of the mask's class:

        foreground = sum_mask p / (sum p + |mask| - sum_mask p)        (soft intersection over union)
        background = the same of the complement of the mask and 1 - p
        agreement  = (foreground + background) / 2

    A low threshold includes pixels of which the other view is unsure; a high one excludes pixels of which it
    is sure. Equal weights of background and foreground keep the larger one from dominating. Each view
    provides the mask once.

    Args:
        num_classes: number of foreground classes C.
        thresholds: background thresholds, ascending.
    """

    full_state_update = False
    counts: Tensor
    mass: Tensor

    def __init__(self, num_classes: int, thresholds: Sequence[float] = BACKGROUND_THRESHOLDS) -> None:
        super().__init__()
        self.num_classes = check_num_classes(num_classes)
        self.thresholds = check_thresholds(thresholds)
        empty = torch.zeros(len(self.thresholds) + 1, dtype=torch.int64)
        self.add_state("counts", empty, dist_reduce_fx="sum")
        self.add_state("mass", empty.clone(), dist_reduce_fx="sum")

    def update(self, first: Tensor, second: Tensor) -> None:
        """Count the pixels of one image or batch in two views, both on the same grid.

        Args:
            first: [C, H, W] or [B, C, H, W] seed of one view, in [0, 1].
            second: seed of the other view, of the same shape.
        """
        if first.shape != second.shape:
            raise InputError(
                f"views are {tuple(first.shape)} and {tuple(second.shape)}: resize them to one size"
            )
        for name, seed in (("first view", first), ("second view", second)):
            check_seed(seed, self.num_classes, name)
            if seed.numel() and (seed.min() < -TOLERANCE or seed.max() > 1 + TOLERANCE):
                raise InputError(
                    f"{name} must have scores in [0, 1], got {seed.min():.4g} to {seed.max():.4g}"
                )
        for mask_view, score_view in ((first, second), (second, first)):
            best, bins = top_class_bins(mask_view, self.thresholds)
            score = score_view.gather(-3, best.unsqueeze(-3)).flatten().double()
            self.counts += torch.bincount(bins.flatten(), minlength=len(self.counts))
            self.mass.index_add_(0, bins.flatten(), (score * FIXED_POINT).round().long())

    def compute(self) -> AgreementResult:
        """Return the agreement over the whole set at every threshold."""
        counts, mass = self.counts.cpu(), self.mass.cpu()
        size, pixels = count_above(counts), counts.sum()
        inside, total = count_above(mass).double() / FIXED_POINT, mass.sum().double() / FIXED_POINT
        outside = (pixels - size) - (total - inside)
        foreground = inside / (total + size - inside).clamp(min=1 / FIXED_POINT)
        background = outside / ((pixels - total) + (pixels - size) - outside).clamp(min=1 / FIXED_POINT)
        return AgreementResult(self.thresholds, tuple((50 * (foreground + background)).tolist()))
