"""The accuracy of a box in the middle of every image, which any learned map should exceed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError
from fbr_plugin.metrics.boxes import IOUS, SIZE, box_iou, centred_boxes, clip_boxes, scale_boxes

_SIDES = np.arange(4, SIZE + 1, 4)


class CentreBoxResult(NamedTuple):
    """Accuracy of one box in the middle of every image, in percent.

    Attributes:
        gt_known: GT-known at an IoU of 0.5, with the best size.
        max_box_acc_v2: mean over the IoUs 0.3, 0.5 and 0.7, each with its best size.
        width: width of the box of `gt_known`, as a share of the image's.
        height: height of that box, as a share of the image's.
    """

    gt_known: float
    max_box_acc_v2: float
    width: float
    height: float


class CentreBox(Metric):
    """Accuracy of a fixed box in the middle of every image.

    Its size, as a share of the image's width and height, is the best in steps of 1/56. Like the oracle
    thresholds of `BoxSweep`, it is chosen with the true boxes.
    """

    full_state_update = False
    hits: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        shape = (len(IOUS), len(_SIDES), len(_SIDES))
        self.add_state("hits", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, boxes: Sequence[Tensor], sizes: Tensor) -> None:
        """Count the images of a batch.

        Args:
            boxes: for each of B images its true boxes [n, 4]: x0, y0, x1, y1 in pixels from 0.
            sizes: [B, 2] heights and widths of the images.
        """
        if sizes.shape != (len(boxes), 2):
            raise InputError(f"sizes must be [B, 2] for {len(boxes)} images; got {tuple(sizes.shape)}")
        candidates = centred_boxes(_SIDES)
        for given, (height, width) in zip(boxes, sizes.tolist(), strict=True):
            inside, _ = clip_boxes(given.cpu().double().numpy(), height, width)
            overlap = box_iou(candidates, scale_boxes(inside, height, width).astype(np.int64)).max(-1)
            hit = overlap >= np.array(IOUS)[:, None, None]
            self.hits += torch.as_tensor(hit, dtype=torch.int64, device=self.hits.device)
        self.images += len(boxes)

    def compute(self) -> CentreBoxResult:
        """Return the figures of the whole set."""
        shares = (100 * self.hits.cpu().double() / self.images.cpu()).numpy()
        at_half = shares[IOUS.index(0.5)]
        width, height = _SIDES[list(np.unravel_index(at_half.argmax(), at_half.shape))] / SIZE
        best = shares.max((1, 2))
        return CentreBoxResult(float(at_half.max()), float(best.mean()), float(width), float(height))
