"""Pixel-wise localization quality."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError
from fbr_plugin.metrics.boxes import BOX_THRESHOLDS, SIZE, check_batch, normalise_map, resize_map
from fbr_plugin.metrics.sweep import IGNORE, check_labels, histogram

_EDGES = np.append(BOX_THRESHOLDS, 1.0)


class PixelResult(NamedTuple):
    """Pixel-wise quality of score maps, in percent; nan if no mask has a foreground pixel.

    Attributes:
        pxap: area under the precision-recall curve.
        piou: best intersection over union of the foreground at any threshold, over the whole set.
        oracle_threshold: the threshold of `piou`, chosen with the masks.
        thresholds: the T thresholds, ascending.
        precision: share of the predicted foreground that is foreground, at each threshold; nan where none is
            predicted.
        recall: share of the foreground that is predicted, at each threshold.
    """

    pxap: float
    piou: float
    oracle_threshold: float
    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]


class PixelSweep(Metric):
    """Pixel quality of score maps at every threshold at once: PxAP and PIoU.

    PxAP is that of Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020,
    and their code at commit 96f4b88; PIoU is that of Zhai et al., "Background Activation Suppression for
    Weakly Supervised Object Localization and Semantic Segmentation", IJCV 2023. Maps are resized to 224 x 224
    (bicubic) and normalised to [0, 1]; true masks are resized to the nearest pixel. At threshold t, from 0 to
    1 in steps of .001, the foreground is what reaches t.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        shape = (2, len(_EDGES))  # background, foreground
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor | Sequence[Tensor]) -> None:
        """Count the pixels of a batch.

        Args:
            maps: [B, h, w] scores, of any range and size.
            masks: B true masks [H, W], of any size each: 0 = background, 255 = ignored, anything else is
                foreground.
        """
        check_batch(maps, masks, None)
        for score, mask in zip(maps.detach().cpu().double().numpy(), masks, strict=True):
            if mask.ndim != 2:
                raise InputError(f"masks must be [H, W], one per map, got {tuple(mask.shape)}")
            check_labels(mask, IGNORE, "masks")
            resized = normalise_map(resize_map(score, cv2.INTER_CUBIC))
            small = mask.cpu().numpy().astype(np.uint8)
            truth = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
            known = truth != IGNORE
            bins = torch.from_numpy(np.searchsorted(_EDGES, resized[known], side="right") - 1)
            group = torch.from_numpy(truth[known] > 0).long()
            self.counts += histogram(bins, len(_EDGES), group, 2).to(self.counts.device)

    def compute(self) -> PixelResult:
        """Return the figures of the whole set."""
        counts = self.counts.cpu().double()
        false, true = counts.flip(1).cumsum(1).flip(1)  # of the pixels that reach each threshold
        precision, recall, iou = true / (true + false), true / true[0], true / (true[0] + false)
        gained = counts[1] / true[0]  # recall, by lowering the threshold to each
        best = int(iou.numpy().argmax())  # the lowest threshold of several
        return PixelResult(
            pxap=100 * (precision.nan_to_num() * gained).sum().item(),
            piou=100 * iou[best].item() if true[0] else math.nan,
            oracle_threshold=float(_EDGES[best]) if true[0] else math.nan,
            thresholds=tuple(_EDGES.tolist()),
            precision=tuple((100 * precision).tolist()),
            recall=tuple((100 * recall).tolist()),
        )
