"""Localization accuracy over a whole set, by the common protocol and by that of BAS."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError, WarnOnce
from fbr_plugin.metrics.boxes import (
    BOX_THRESHOLDS,
    IOUS,
    box_iou,
    check_batch,
    clip_boxes,
    component_box,
    contour_ious,
    normalise_map,
    resize_map,
    scale_boxes,
)


class BoxResult(NamedTuple):
    """Share of images with a correct box, in percent.

    Attributes:
        gt_known: the box overlaps a true box with an IoU of 0.5.
        top1: in addition, the first predicted class is correct; nan without ranks.
        top5: in addition, one of the first five predicted classes is correct; nan without ranks.
    """

    gt_known: float
    top1: float
    top5: float


class FixedBoxResult(NamedTuple):
    """Share of images with a correct box at a fixed threshold, in percent.

    Attributes:
        gt_known: see `BoxResult`.
        top1: see `BoxResult`.
        top5: see `BoxResult`.
        max_box_acc_v2_bas: what BAS's released evaluator reports as MaxBoxAccV2: the mean over the IoUs 0.3,
            0.5 and 0.7 of the share of images whose one box is correct. `BoxSweepResult.max_box_acc_v2` is
            the protocol's own: any contour, at the best threshold of each IoU.
    """

    gt_known: float
    top1: float
    top5: float
    max_box_acc_v2_bas: float


class BoxSweepResult(NamedTuple):
    """Localization accuracy at every threshold, in percent of the images.

    Attributes:
        thresholds: the T thresholds, as shares of a map's maximum.
        results: the result of the largest contour at each of them.
        any_contour: for the IoUs 0.3, 0.5 and 0.7, the share of images at each threshold in which the box of
            any contour overlaps any true box.
    """

    thresholds: tuple[float, ...]
    results: tuple[BoxResult, ...]
    any_contour: tuple[tuple[float, ...], ...]

    @property
    def oracle_threshold(self) -> float:
        """The threshold of the best GT-known: chosen with the boxes, so it gives an upper bound."""
        return max(
            zip(self.results, self.thresholds, strict=True), key=lambda pair: (pair[0].gt_known, -pair[1])
        )[1]

    @property
    def oracle(self) -> BoxResult:
        """GT-known, Top-1 and Top-5 Loc at the oracle threshold."""
        return self.results[self.thresholds.index(self.oracle_threshold)]

    @property
    def max_box_acc(self) -> float:
        """MaxBoxAcc: GT-known at the oracle threshold."""
        return self.oracle.gt_known

    @property
    def max_box_acc_v2(self) -> float:
        """MaxBoxAccV2: the mean over the IoUs of the best `any_contour`, each at an oracle threshold."""
        return float(np.mean([max(shares) for shares in self.any_contour]))


class _BoxMetric(Metric):
    """Counts of correct boxes, from one score map of the true class per image."""

    full_state_update = False
    hits: Tensor
    ranked_hits: Tensor
    images: Tensor
    ranked_images: Tensor

    def __init__(self, criteria: int, steps: int) -> None:
        super().__init__()
        self._warn = WarnOnce()
        self.add_state("hits", torch.zeros((criteria, steps), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ranked_hits", torch.zeros((2, steps), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("ranked_images", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        maps: Tensor,
        boxes: Sequence[Tensor],
        ranks: Tensor | None = None,
        sizes: Tensor | None = None,
    ) -> None:
        """Count the images of a batch.

        Args:
            maps: [B, h, w] scores of the true class, of any range and size.
            boxes: for each image its true boxes [n, 4]: x0, y0, x1, y1 in pixels from 0, corners inside.
                Boxes that reach beyond the image are clipped, with one warning.
            ranks: [B] ranks of the true classes among the predicted ones, from 0; None leaves these images
                out of Top-1 and Top-5.
            sizes: [B, 2] heights and widths of the images to which the boxes refer; None: the maps' own.
        """
        check_batch(maps, boxes, sizes)
        if ranks is not None and ranks.shape != maps.shape[:1]:
            raise InputError(
                f"ranks must be [B], one per image, got {tuple(ranks.shape)} for {len(maps)} maps"
            )
        frames = [maps.shape[1:]] * len(maps) if sizes is None else sizes.tolist()
        right = [
            self.judge(score, self._true_boxes(given, *frame))
            for score, given, frame in zip(maps.detach().cpu().double().numpy(), boxes, frames, strict=True)
        ]
        right_at = torch.as_tensor(np.stack(right), dtype=torch.int64, device=self.hits.device)
        self.hits += right_at.sum(0)
        self.images += len(right)
        if ranks is not None:
            in_top = torch.stack([ranks < 1, ranks < 5]).to(self.hits.device)
            self.ranked_hits += (in_top[..., None] * right_at[:, 0]).sum(1)
            self.ranked_images += len(right)

    def judge(self, score: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a map's box is correct: [criteria, T], for each criterion and threshold.

        Args:
            score: [h, w] scores.
            boxes: [n, 4] true boxes on the grid of `SIZE` x `SIZE`.
        """
        raise NotImplementedError

    def _results(self) -> tuple[BoxResult, ...]:
        """Results by the first criterion at each threshold."""
        known = 100 * self.hits[:1].cpu().double() / self.images.cpu()
        ranked = 100 * self.ranked_hits.cpu().double() / self.ranked_images.cpu()
        return tuple(BoxResult(*shares) for shares in torch.cat([known, ranked]).T.tolist())

    def _true_boxes(self, given: Tensor, height: int, width: int) -> NDArray[np.float64]:
        boxes, cut = clip_boxes(given.cpu().double().numpy(), height, width)
        if cut:
            self._warn(
                f"some of the boxes {given.tolist()} reach beyond their image of {width}x{height}: these, "
                "and any others like them, are clipped to the image"
            )
        return scale_boxes(boxes, height, width)


class BoxSweep(_BoxMetric):
    """Localization at every threshold at once, by the protocol of most publications.

    Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, and their code
    at commit 96f4b88. Maps are resized to 224 x 224 (bicubic) and normalised to [0, 1]; true boxes are scaled
    with them. At threshold t, from 0 to .999 in steps of .001, the foreground is what exceeds `int(255 * t)`
    of 255 levels. A box is correct if its IoU reaches the bound.
    """

    def __init__(self) -> None:
        super().__init__(1 + len(IOUS), len(BOX_THRESHOLDS))

    def judge(self, score: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        resized = normalise_map(resize_map(score, cv2.INTER_CUBIC))
        largest, best = contour_ious(resized, BOX_THRESHOLDS, boxes.astype(np.int64))
        return np.stack([largest >= 0.5, *(best >= iou for iou in IOUS)])

    def compute(self) -> BoxSweepResult:
        """Return the figures of the whole set at every threshold."""
        any_contour = 100 * self.hits[1:].cpu().double() / self.images.cpu()
        return BoxSweepResult(
            tuple(BOX_THRESHOLDS.tolist()), self._results(), tuple(map(tuple, any_contour.tolist()))
        )


class BoxAccuracy(_BoxMetric):
    """Localization at a fixed threshold, as in the evaluation published with BAS.

    Zhai et al., "Background Activation Suppression for Weakly Supervised Object Localization and Semantic
    Segmentation", IJCV 2023, and their code at commit bd1bfa8. Maps are normalised to [0, 1] and resized to
    224 x 224 (bilinear). The box is that of the largest component above the threshold, and correct if its IoU
    reaches the bound. The code of their CVPR paper (54c395e) asks for an IoU above 0.5, and averages over
    classes.

    Args:
        threshold: share of a map's maximum. Published values are .1 for CUB; for ILSVRC, .45 with VGG, .25
            with ResNet and Inception, and .5 with MobileNet.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__(1 + len(IOUS), 1)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be 0 or more and below 1, got {threshold}")
        self.threshold = threshold

    def find(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Find the box [4] of scores: [h, w], on the grid of `SIZE` x `SIZE`."""
        return component_box(resize_map(normalise_map(score), cv2.INTER_LINEAR) > self.threshold)

    def judge(self, score: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        overlap = box_iou(self.find(score)[None], boxes).max()
        return np.array([[overlap >= iou] for iou in (0.5, *IOUS)])

    def compute(self) -> FixedBoxResult:
        """Return the figures of the whole set."""
        shares = 100 * self.hits[1:].cpu().double() / self.images.cpu()
        return FixedBoxResult(*self._results()[0], float(shares.mean()))


def true_class_ranks(scores: Tensor, label: Tensor) -> Tensor:
    """Rank of each image's true class by the class scores, from 0; ties and NaN count against it.

    Args:
        scores: [B, C] class scores.
        label: [B, C] image labels in {0, 1}, one class each.

    Returns:
        [B] int64 number of other classes that score at least as high as the true one.
    """
    if not (label.sum(1) == 1).all():
        raise InputError(f"label must hold one class per image, got {label.sum(1).tolist()} classes")
    true_score = scores.gather(1, label.argmax(1, keepdim=True))
    place = (~(scores < true_score)).sum(1) - 1
    return torch.where(true_score[:, 0].isnan(), scores.shape[1], place)
