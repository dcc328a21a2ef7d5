"""Localization quality over a whole set: boxes by the protocol that most share, and by that of BAS."""

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
    """Share of the images whose box is right, in percent.

    Attributes:
        gt_known: overlap with a true box at IoU 0.5.
        top1: the same, where the first predicted class is right as well; nan without ranks.
        top5: the same, where one of the first five is; nan without ranks.
    """

    gt_known: float
    top1: float
    top5: float


class BoxSweepResult(NamedTuple):
    """Localization accuracy at every threshold, in percent of the images.

    Attributes:
        thresholds: the T thresholds, as shares of a map's maximum.
        results: the result of the largest contour at each of them.
        any_contour: by IoU 0.3, 0.5 and 0.7, at each threshold the share of images in which any contour's box
            overlaps any true box.
    """

    thresholds: tuple[float, ...]
    results: tuple[BoxResult, ...]
    any_contour: tuple[tuple[float, ...], ...]

    @property
    def oracle_threshold(self) -> float:
        """The threshold of the best GT-known: chosen with the boxes, so an upper bound, no result."""
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
    """Right boxes, from one score map of the true class for each image."""

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
                What reaches beyond the image is cut off, with one warning.
            ranks: [B] places of the true classes among the predicted ones, from 0; without, Top-1 and Top-5
                leave these images out.
            sizes: [B, 2] heights and widths of the images in whose pixels the boxes are; None: the maps' own.
        """
        check_batch(maps, boxes, sizes)
        if ranks is not None and ranks.shape != maps.shape[:1]:
            raise InputError(
                f"ranks must be [B], one an image, got {tuple(ranks.shape)} for {len(maps)} maps"
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
        """Whether a map's box is right by each criterion at each threshold: [criteria, T].

        Args:
            score: [h, w] scores.
            boxes: [n, 4] true boxes on the grid of `SIZE` x `SIZE`.
        """
        raise NotImplementedError

    def _results(self) -> tuple[BoxResult, ...]:
        """Results of the first criterion at each threshold."""
        known = 100 * self.hits[:1].cpu().double() / self.images.cpu()
        ranked = 100 * self.ranked_hits.cpu().double() / self.ranked_images.cpu()
        return tuple(BoxResult(*shares) for shares in torch.cat([known, ranked]).T.tolist())

    def _true_boxes(self, given: Tensor, height: int, width: int) -> NDArray[np.float64]:
        boxes, cut = clip_boxes(given.cpu().double().numpy(), height, width)
        if cut:
            self._warn(
                f"of the boxes {given.tolist()} some reach beyond their image of {width}x{height}: they, and "
                "any more of this kind, are cut off at its border"
            )
        return scale_boxes(boxes, height, width)


class BoxSweep(_BoxMetric):
    """Localization at every threshold at once, by the protocol that most publications share.

    Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, and their code
    at commit 96f4b88. Maps are resized to 224 x 224 (bicubic) and stretched to [0, 1], true boxes scaled
    along; the prediction at threshold t, from 0 to .999 in steps of .001, is what exceeds `int(255 * t)` of
    255 levels. A box is right if its IoU reaches the bound.
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

    Wu et al., "Background Activation Suppression for Weakly Supervised Object Localization", CVPR 2022, and
    their code at commit 54c395e, which ends with the mean over classes where this is the mean over images.
    Maps are stretched to [0, 1] and resized to 224 x 224 (bilinear); the box is that of the largest component
    above the threshold, and right if its IoU exceeds 0.5.

    Args:
        threshold: share of a map's maximum. CUB takes .1; ILSVRC .45 with VGG, .25 with ResNet and Inception,
            .5 with MobileNet.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__(1, 1)
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be 0 or more and below 1, got {threshold}")
        self.threshold = threshold

    def find(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Find the box [4] of scores: [h, w], on the grid of `SIZE` x `SIZE`."""
        return component_box(resize_map(normalise_map(score), cv2.INTER_LINEAR) > self.threshold)

    def judge(self, score: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.array([[(box_iou(self.find(score)[None], boxes) > 0.5).any()]])

    def compute(self) -> BoxResult:
        """Return the figures of the whole set."""
        return self._results()[0]


def true_class_ranks(scores: Tensor, label: Tensor) -> Tensor:
    """Place of each image's true class among all classes by their scores, from 0; ties and NaN come last.

    Args:
        scores: [B, C] class scores.
        label: [B, C] image labels in {0, 1}, one class each.

    Returns:
        [B] int64 number of other classes that score as high as the true one, or higher.
    """
    if not (label.sum(1) == 1).all():
        raise InputError(f"label must hold one class an image, got {label.sum(1).tolist()} classes")
    true_score = scores.gather(1, label.argmax(1, keepdim=True))
    place = (~(scores < true_score)).sum(1) - 1
    return torch.where(true_score[:, 0].isnan(), scores.shape[1], place)
