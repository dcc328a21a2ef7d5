"""Localization metrics of a baseline, counted over a whole set."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fbr_plugin.baselines.tasks.seed_scores import SeedScores
from fbr_plugin.metrics import BoxAccuracy, BoxSweep, CentreBox, PixelSweep, true_class_ranks


class LocalizationScores(SeedScores):
    """Quality of seeds or, in a set whose images have boxes or masks of their object, of localization.

    Args:
        num_classes: number of foreground classes C.
        threshold: share of a map's maximum at which it is thresholded into a box.
    """

    def __init__(self, num_classes: int, threshold: float) -> None:
        super().__init__(num_classes)
        self.boxes = BoxSweep()
        self.boxes_at_threshold = BoxAccuracy(threshold)
        self.centre_box = CentreBox()
        self.pixels = PixelSweep()

    def reset(self) -> None:
        """Forget all counts."""
        super().reset()
        for metric in (self.boxes, self.boxes_at_threshold, self.centre_box, self.pixels):
            metric.reset()

    def update_boxes(self, batch: dict[str, Any], maps: Tensor, scores: Tensor, fixed: Tensor) -> None:
        """Count the boxes of a batch.

        Args:
            batch: with `boxes`, B tensors [n, 4] in pixels of the image, and `label` [B, C], one class each.
            maps: [B, H, W] what localizes the class, at the size of the image.
            scores: [B, C] class scores.
            fixed: [B, h, w] the maps of which boxes are made at the fixed threshold, of any size.
        """
        ranks, boxes = true_class_ranks(scores, batch["label"]), batch["boxes"]
        sizes = torch.tensor([maps.shape[1:]] * len(maps))
        self.boxes.update(maps, boxes, ranks)
        self.boxes_at_threshold.update(fixed, boxes, ranks, sizes)
        self.centre_box.update(boxes, sizes)

    def update_pixels(self, masks: Sequence[Tensor], maps: Tensor) -> None:
        """Count the pixels of a batch.

        Args:
            masks: B masks [h, w] of the object: 1 = object, 0 = background, 255 = ignored.
            maps: [B, H, W] what localizes the class.
        """
        self.pixels.update(maps, masks)

    def compute(self) -> dict[str, float]:
        """The metrics by name, in percent but for thresholds: of boxes and masks if any, else of the seeds.

        GT-known, Top-1, Top-5 and BAS's form of MaxBoxAccV2 are at the given threshold; MaxBoxAcc,
        MaxBoxAccV2 and PIoU are at the best one. The accuracy of a fixed box of the best size is added, which
        any learned map should exceed.
        """
        if not (self.boxes.update_called or self.pixels.update_called):
            return super().compute()
        figures = self._of_boxes() if self.boxes.update_called else {}
        if self.pixels.update_called:
            found = self.pixels.compute()
            figures |= {
                "pxap": found.pxap,
                "piou": found.piou,
                "mask_threshold_oracle": found.oracle_threshold,
            }
        return figures

    def _of_boxes(self) -> dict[str, float]:
        sweep, fixed = self.boxes.compute(), self.boxes_at_threshold.compute()
        centre = self.centre_box.compute()
        return {
            "gt_known_loc": fixed.gt_known,
            "top1_loc": fixed.top1,
            "top5_loc": fixed.top5,
            "max_box_acc_v2_bas": fixed.max_box_acc_v2_bas,
            "max_box_acc": sweep.max_box_acc,
            "max_box_acc_v2": sweep.max_box_acc_v2,
            "box_threshold_oracle": sweep.oracle_threshold,
            "centre_box_gt_known_loc": centre.gt_known,
            "centre_box_max_box_acc_v2": centre.max_box_acc_v2,
        }
