"""Pixel-wise localization quality."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError
from fbr_plugin.metrics.boxes import BOX_THRESHOLDS, SIZE, check_batch, normalise_map, resize_map
from fbr_plugin.metrics.sweep import IGNORE, check_labels, histogram


class PixelResult(NamedTuple):
    """Pixel-wise quality of score maps, in percent.

    Attributes:
        pxap: area under the precision-recall curve.
        piou: best intersection over union of the foreground at any threshold, over the whole set.
        oracle_threshold: the threshold of `piou`, chosen with the masks.
    """

    pxap: float
    piou: float
    oracle_threshold: float


class PixelSweep(Metric):
    """Pixel quality of score maps at every threshold at once: PxAP and PIoU.

    Maps are resized to 224 x 224 (bicubic) and normalised to [0, 1]; true masks are resized with them. At
    threshold t, from 0 to 1 in steps of .001, the foreground is what reaches t.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        shape = (2, len(BOX_THRESHOLDS) + 1)  # background, foreground
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Count the pixels of a batch.

        Args:
            maps: [B, h, w] scores, of any range and size.
            masks: [B, H, W] true masks: 0 = background, 255 = ignored, anything else is foreground.
        """
        check_batch(maps, masks, None)
        if masks.ndim != 3:
            raise InputError(f"masks must be [B, H, W], got {tuple(masks.shape)}")
        check_labels(masks, IGNORE, "masks")
        edges = np.append(BOX_THRESHOLDS, 1.0)
        for score, mask in zip(maps.detach().cpu().double().numpy(), masks.cpu().numpy(), strict=True):
            resized = normalise_map(resize_map(score, cv2.INTER_CUBIC))
            truth = cv2.resize(mask.astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
            known = truth != IGNORE
            bins = torch.from_numpy(np.searchsorted(edges, resized[known], side="right") - 1)
            group = torch.from_numpy(truth[known] > 0).long()
            self.counts += histogram(bins, len(edges), group, 2).to(self.counts.device)

    def compute(self) -> PixelResult:
        """Return the figures of the whole set."""
        false, true = self.counts.cpu().double().flip(1).cumsum(1)  # from the highest threshold down
        total = true[-1]
        precision = torch.where(true + false > 0, true / (true + false), 0)
        iou = true / (total + false)
        best = len(iou) - 1 - int(iou.flip(0).argmax())  # the lowest threshold of several
        area = (precision * torch.diff(true / total, prepend=true.new_zeros(1))).sum()
        return PixelResult(
            pxap=100 * area.item(),
            piou=100 * iou[best].item(),
            oracle_threshold=float(np.append(BOX_THRESHOLDS, 1.0)[::-1][best]),
        )
