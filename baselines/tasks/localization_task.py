"""The base of baselines that also localize, by maps of the true class or of the predicted ones."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fbr_plugin.baselines.tasks.encoder_task import Batch
from fbr_plugin.baselines.tasks.localization_scores import LocalizationScores
from fbr_plugin.baselines.tasks.seed_task import SeedTask
from fbr_plugin.contract import BoxPrediction, SeedPrediction
from fbr_plugin.errors import InputError, check_choice
from fbr_plugin.functional import max_normalise
from fbr_plugin.metrics.boxes import SIZE
from fbr_plugin.postprocess.multi_scale import multi_scale_scores

BoxGrid = Literal["image", "features"]


class LocalizationTask(SeedTask):
    """A baseline that classifies by maps, so that batches with boxes or masks of the object can be scored.

    A subclass defines `scored_maps` and the methods of `SeedTask`.

    Args:
        num_classes: number of foreground classes C.
        top_n: in such batches, localize by the average map of the n highest-scoring classes. None uses the
            map of the true class, so that GT-known is independent of the classification. BAS's released code
            averages 200 classes on CUB with ResNet-50 and InceptionV3 and 80 with VGG16 and MobileNetV1; its
            "top 1" on ILSVRC is the true class, None here.
        box_threshold: share of a map's maximum at which it is thresholded into a box.
        box_grid: the map that is normalised and thresholded into that box: the one at the size of the
            "image", or as in BAS's released evaluator the one on the grid of the "features".
        kwargs: see `SeedTask`.
    """

    ranked_by = ("max_box_acc_v2", "pxap", "miou_oracle")
    scores: LocalizationScores

    def __init__(
        self,
        num_classes: int,
        top_n: int | None = None,
        box_threshold: float = 0.25,
        box_grid: BoxGrid = "image",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        check_choice("box_grid", box_grid, BoxGrid)
        if top_n is not None and not 1 <= top_n <= self.num_classes:
            raise InputError(f"top_n must be 1 to num_classes={self.num_classes}, or None, got {top_n}")
        self.scores = LocalizationScores(self.num_classes, box_threshold)

    def scored_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map image: [B, 3, H, W] to class maps [B, C, h, w] at stride `stride` and class logits [B, C]."""
        raise NotImplementedError

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Count the seeds of a batch, or its boxes and masks, and return these maps as a `BoxPrediction`."""
        if not _localizes(batch):
            return super().test_step(batch, batch_idx)
        maps, fixed = self._count_localization(batch)
        drawn = np.stack(
            [self.scores.boxes_at_threshold.find(score) for score in fixed.double().cpu().numpy()]
        )
        height, width = maps.shape[-2:]
        return BoxPrediction(maps, torch.from_numpy(drawn * [width, height, width, height] / SIZE))

    def _count(self, batch: Batch, scales: Any) -> SeedPrediction | None:
        if not _localizes(batch):
            return super()._count(batch, scales)
        self._count_localization(batch)
        return None

    def _count_localization(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Count the boxes and masks of a batch.

        Returns:
            The maps [B, H, W] that localize the class, and the maps of which boxes are made at the fixed
            threshold.
        """
        image, label, top_n = batch["image"], batch["label"], self.hparams["top_n"]
        maps, logits = self.scored_maps(image)
        chosen = averaged_maps(maps, label if top_n is None else first_classes(logits, top_n))[:, None]
        full = multi_scale_scores(lambda *_: chosen, image, label, self.stride, mirrored=(False,))[:, 0]
        full = self.match_seeds(max_normalise(full.relu()))
        fixed = full
        if self.hparams["box_grid"] == "features":
            if any(side % self.stride for side in image.shape[-2:]):
                raise InputError(
                    f"box_grid='features' needs images whose sides are multiples of {self.stride}, the maps' "
                    f"stride, got {tuple(image.shape[-2:])}: set the data's eval_size, or box_grid='image'"
                )
            fixed = self.match_seeds(max_normalise(chosen[:, 0].relu()))
        if "boxes" in batch:
            self.scores.update_boxes(batch, full, self._class_scores(batch, logits), fixed)
        if "object_mask" in batch:
            self.scores.update_pixels(batch["object_mask"], full)
        return full, fixed

    def _class_scores(self, batch: Batch, logits: Tensor) -> Tensor:
        """Class scores [B, C]: the logits of the images or, with ten crops, the crops' mean probabilities."""
        if "crops" not in batch:
            return logits
        crops: Tensor = batch["crops"]  # [B, 10, 3, h, w]
        return torch.stack([self.scored_maps(each)[1].softmax(1).mean(0) for each in crops])


def _localizes(batch: Batch) -> bool:
    """Whether a batch is scored by localization."""
    return "boxes" in batch or "object_mask" in batch


def first_classes(logits: Tensor, number: int) -> Tensor:
    """The highest-scoring classes of logits: [B, C], as [B, C] of 0 and 1."""
    return torch.zeros_like(logits).scatter(1, logits.topk(number).indices, 1.0)


def averaged_maps(maps: Tensor, classes: Tensor) -> Tensor:
    """Average maps: [B, C, h, w] over the classes [B, C] that are 1: [B, h, w]."""
    weights = classes / classes.sum(1, keepdim=True)
    return torch.einsum("bchw,bc->bhw", maps.float(), weights.float())
