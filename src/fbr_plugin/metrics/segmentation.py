"""Segmentation quality over a whole set: of masks, and of seeds at every background threshold at once."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError
from fbr_plugin.metrics.sweep import (
    BACKGROUND_THRESHOLDS,
    IGNORE,
    check_labels,
    check_num_classes,
    check_seed,
    check_thresholds,
    count_above,
    histogram,
    top_class_bins,
)


def warn_without_class(recall: float) -> None:
    """Warn if the recall of the foreground is nan, as that of masks without a class."""
    if math.isnan(recall):
        warnings.warn(
            "not one pixel of the true masks is of a class: they hold 0 for the background and 1..C for the "
            "classes, and 255 is ignored",
            stacklevel=2,
        )


class SegmentationResult(NamedTuple):
    """Quality of the masks of a set, in percent; nan where there is nothing to divide by.

    Attributes:
        miou: mean of `iou` over the classes that occur.
        iou: intersection over union of background and each foreground class; nan for a class that is absent
            from truth and prediction.
        recall: share of the true foreground pixels with the correct class.
        precision: share of the predicted foreground pixels with the correct class.
        accuracy: share of all pixels with the correct class.
        unlabelled: share of the pixels that have a true class but no prediction (255); they count as wrong.
    """

    miou: float
    iou: tuple[float, ...]
    recall: float
    precision: float
    accuracy: float
    unlabelled: float

    @property
    def absent(self) -> tuple[int, ...]:
        """Classes that occur in neither truth nor prediction, and so are left out of the mean."""
        return tuple(index for index, value in enumerate(self.iou) if math.isnan(value))


class SweepResult(NamedTuple):
    """Quality of seeds at every background threshold.

    Attributes:
        thresholds: the T background thresholds.
        results: the result at each threshold.
    """

    thresholds: tuple[float, ...]
    results: tuple[SegmentationResult, ...]

    @property
    def miou(self) -> tuple[float, ...]:
        """Mean intersection over union at each threshold."""
        return tuple(result.miou for result in self.results)

    @property
    def oracle_threshold(self) -> float:
        """The threshold of the best mIoU: chosen with the masks, so it gives an upper bound."""
        return max(zip(self.miou, self.thresholds, strict=True), key=lambda pair: (pair[0], -pair[1]))[1]

    @property
    def oracle(self) -> SegmentationResult:
        """The result at the oracle threshold."""
        return self.at(self.oracle_threshold)

    def at(self, threshold: float) -> SegmentationResult:
        """Return the result at one of the thresholds."""
        if threshold not in self.thresholds:
            raise InputError(f"threshold {threshold} is not in the sweep: choose one of {self.thresholds}")
        return self.results[self.thresholds.index(threshold)]


def summarise_confusion(confusion: Tensor) -> SegmentationResult:
    """Compute all metrics from one confusion matrix.

    Args:
        confusion: [1+C, 2+C] int64 pixels by truth (rows) and prediction (columns); the last column counts
            pixels without a prediction.
    """
    counts = confusion.double()
    truth, predicted, hit = counts.sum(1), counts[:, :-1].sum(0), counts.diagonal()
    iou = 100 * hit / (truth + predicted - hit)
    foreground_hit = hit[1:].sum()
    return SegmentationResult(
        miou=iou.nanmean().item(),
        iou=tuple(iou.tolist()),
        recall=(100 * foreground_hit / truth[1:].sum()).item(),
        precision=(100 * foreground_hit / predicted[1:].sum()).item(),
        accuracy=(100 * hit.sum() / truth.sum()).item(),
        unlabelled=(100 * counts[:, -1].sum() / truth.sum()).item(),
    )


def image_iou(confusion: Tensor) -> float:
    """IoU in percent of one image: the mean over the background and the classes in its true mask.

    Args:
        confusion: [1+C, 2+C] pixels of the image, see `SegmentationScore.count`.

    Returns:
        The mean; nan if the true mask is 255 everywhere.
    """
    return torch.tensor(summarise_confusion(confusion).iou)[confusion.sum(1) > 0].mean().item()


class SegmentationScore(Metric):
    """Intersection over union of masks, from one 64-bit confusion matrix over the whole set.

    Pixels that are 255 in the truth are ignored; 255 only in the prediction is a pixel without a prediction.

    Args:
        num_classes: number of foreground classes C.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = check_num_classes(num_classes)
        shape = (num_classes + 1, num_classes + 2)
        self.add_state("confusion", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count the pixels of one image or batch, as `count` does."""
        self.confusion += self.count(prediction, target)

    def count(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Count the pixels of one image or batch, apart from all others.

        Args:
            prediction: [H, W] or [B, H, W] classes 0 to C, or 255 for pixels without prediction.
            target: true classes of the same shape, 255 where ignored.

        Returns:
            [1+C, 2+C] int64 pixels by truth and prediction; the last column has no prediction.
        """
        if prediction.shape != target.shape:
            raise InputError(
                f"prediction is {tuple(prediction.shape)}, target {tuple(target.shape)}: sizes must be equal"
            )
        check_labels(prediction, self.num_classes, "prediction")
        check_labels(target, self.num_classes, "target")
        # One table of all pairs of 8-bit labels: 255 needs no selection of pixels before the count.
        pairs = target.flatten().int() * (IGNORE + 1) + prediction.flatten()
        table = torch.bincount(pairs, minlength=(IGNORE + 1) ** 2).view(IGNORE + 1, IGNORE + 1)
        known = table[: self.num_classes + 1]
        return torch.cat([known[:, : self.num_classes + 1], known[:, IGNORE:]], 1)

    def compute(self) -> SegmentationResult:
        """Return the figures of the whole set."""
        return summarise_confusion(self.confusion.cpu())


class SeedSweep(Metric):
    """Quality of seeds at every background threshold, in one pass and without files.

    At threshold t, the prediction is the foreground class with the largest score where that score exceeds t,
    and background elsewhere. A histogram over truth, best class and quantised score covers all t exactly.

    Args:
        num_classes: number of foreground classes C.
        thresholds: background thresholds, ascending.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, thresholds: Sequence[float] = BACKGROUND_THRESHOLDS) -> None:
        super().__init__()
        self.num_classes = check_num_classes(num_classes)
        self.thresholds = check_thresholds(thresholds)
        shape = (num_classes + 1, num_classes, len(self.thresholds) + 1)
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, seed: Tensor, target: Tensor, keys: Tensor | None = None) -> None:
        """Count the pixels of one image or batch, as `count` does."""
        self.counts += self.count(seed, target, keys)

    def count(self, seed: Tensor, target: Tensor, keys: Tensor | None = None) -> Tensor:
        """Count the pixels of one image or batch, apart from all others.

        Args:
            seed: [C, H, W] or [B, C, H, W] foreground scores, 0 for classes that the image lacks. With
                `keys`, it has only the channels of these classes.
            target: [H, W] or [B, H, W] true classes, 255 where ignored.
            keys: [M] 0-based classes of the channels, if all other channels are 0 and left out; None: all C.

        Returns:
            [1+C, C, T+1] int64 pixels by true class, best class and bin of the score.
        """
        if keys is None:
            check_seed(seed, self.num_classes)
        else:
            check_seed(seed, len(keys))
            if len(keys) and not 0 <= keys.min() <= keys.max() < self.num_classes:
                raise InputError(f"keys must be 0 to {self.num_classes - 1}, got {keys.tolist()}")
        if target.shape != seed.shape[:-3] + seed.shape[-2:]:
            raise InputError(
                f"seed is {tuple(seed.shape)}, target {tuple(target.shape)}: sizes must be equal"
            )
        check_labels(target, self.num_classes, "target")
        known = target != IGNORE
        best, bins = top_class_bins(seed, self.thresholds)
        best = best if keys is None else keys[best] if len(keys) else best
        group = target[known].long() * self.num_classes + best[known]
        counts = histogram(bins[known], len(self.thresholds) + 1, group, self.counts[..., 0].numel())
        return counts.view_as(self.counts)

    def compute(self) -> SweepResult:
        """Return the figures of the whole set at every threshold."""
        confusions = sweep_confusions(self.counts.cpu())
        results = tuple(summarise_confusion(confusion) for confusion in confusions.unbind(-1))
        return SweepResult(self.thresholds, results)


def sweep_confusions(counts: Tensor) -> Tensor:
    """Turn the counts of a `SeedSweep` into a confusion matrix at every threshold.

    Args:
        counts: [1+C, C, T+1] int64 pixels by true class, best class and bin of the score.

    Returns:
        [1+C, 2+C, T] int64 pixels by truth and prediction; none in the column without a prediction.
    """
    foreground = count_above(counts)
    background = counts.sum((1, 2))[:, None] - foreground.sum(1)
    return torch.cat([background[:, None], foreground, torch.zeros_like(background)[:, None]], 1)
