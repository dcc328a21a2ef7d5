"""Localization metrics of a baseline, counted over a whole set."""

from typing import Any

import torch
from torch import Tensor

from fbr_plugin.baselines.tasks.seed_scores import SeedScores
from fbr_plugin.metrics import BoxAccuracy, BoxSweep, CentreBox, true_class_ranks


class LocalizationScores(SeedScores):
    """Quality of seeds or, in a set whose images have boxes, of localization.

    Args:
        num_classes: number of foreground classes C.
        threshold: share of a map's maximum at which it is thresholded into a box.
    """

    def __init__(self, num_classes: int, threshold: float) -> None:
        super().__init__(num_classes)
        self.boxes = BoxSweep()
        self.boxes_at_threshold = BoxAccuracy(threshold)
        self.centre_box = CentreBox()

    def reset(self) -> None:
        """Forget all counts."""
        super().reset()
        self.boxes.reset()
        self.boxes_at_threshold.reset()
        self.centre_box.reset()

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

    def compute(self) -> dict[str, float]:
        """The metrics by name: of the boxes in percent if there are any, else of the seeds.

        GT-known, Top-1, Top-5 and BAS's form of MaxBoxAccV2 are at the given threshold, MaxBoxAcc and
        MaxBoxAccV2 at the best one. The accuracy of a fixed box of the best size is added, which any learned
        map should exceed.
        """
        if not self.boxes.update_called:
            return super().compute()
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
