"""The base of the baselines: inference and scoring of seeds, and the class-aware gate."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fbr_plugin.baselines.tasks.encoder_task import Batch, EncoderTask, check_masks, original_sizes
from fbr_plugin.baselines.tasks.seed_scores import SeedScores
from fbr_plugin.contract import Baseline, SeedPrediction, SeedStyle, ViewShape
from fbr_plugin.data.datamodules.base import running_data
from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.errors import InputError, check_choice
from fbr_plugin.postprocess.multi_scale import GridExtent, check_scales, multi_scale_scores
from fbr_plugin.stuff import WithStuff

SHALLOW_STRIDE = 8  # of the last level with a small receptive field


class SeedTask(Baseline, EncoderTask):
    """A baseline: an encoder, and new layers that a subclass sets as `self.head`.

    A subclass defines `seed_scores`, `to_seeds` and `training_step`, which returns ``{"loss": ...}`` and also
    ``"views"`` if `wants_views` is true.

    Args:
        num_classes: number of foreground classes C.
        scales: image scales averaged, each with its mirror image, in test and predict.
        val_scales: the same in validation.
        grid_extent: what the grid of scores covers at each scale: its "own" cells, so that a pixel keeps its
            place; or, as in released code, the "image" (AMN, PPC on EPS) or the "cells" of the grid at scale
            1 (CAM, BAS). See `multi_scale_scores`.
        kwargs: see `EncoderTask`.
    """

    ranked_by: ClassVar[tuple[str, ...]] = ("miou_oracle",)
    seed_style: ClassVar[SeedStyle | None] = None
    scores: SeedScores

    def __init__(
        self,
        num_classes: int,
        scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0),
        val_scales: tuple[float, ...] = (1.0,),
        grid_extent: GridExtent = "own",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, **kwargs)
        check_choice("grid_extent", grid_extent, GridExtent)
        check_scales("scales", scales)
        check_scales("val_scales", val_scales)
        finer = sum(stride < SHALLOW_STRIDE for stride in self.encoder.strides)
        self.num_shallow = min(finer + 1, len(self.encoder.strides))
        shallow = sum(self.encoder.channels[: self.num_shallow])
        self.view_shape = ViewShape(self.encoder.channels[-1], num_classes, level_channels=shallow)
        self.scores = SeedScores(num_classes)

    def setup(self, stage: str) -> None:
        """Check that the images have labels, which all of these baselines need, and ask for their stuff."""
        super().setup(stage)
        data = running_data(self.trainer)
        if isinstance(data, LayoutDataModule) and data.label_source == "none":
            raise InputError(
                f"{type(self).__name__} needs image labels, but the data module's label_source is none: set "
                "it to their source"
            )
        scored = stage in ("validate", "test") or (stage == "fit" and self.trainer.enable_validation)
        self.scores.count_stuff(data.stuff_table() if scored and isinstance(data, WithStuff) else None)

    def seed_scores(self, image: Tensor, label: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] and label: [B, C] to raw scores [B, C or 1+C, h, w] at stride `stride`."""
        raise NotImplementedError

    def to_seeds(self, scores: Tensor, batch: Batch) -> Tensor:
        """Turn scores: [B, C or 1+C, H, W] at the image's size into a seed of the same shape in [0, 1]."""
        raise NotImplementedError

    def shallow(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The shallow levels, up to the first of stride 8 or more, by which the gate describes a pixel.

        Deeper levels have such large receptive fields that they reflect the classifier's view of the image.
        Of a plain vision transformer, whose levels all have stride 14 or 16, this is the first one alone,
        after a quarter of the blocks: each block mixes all patches once more.
        """
        return tuple(levels[: self.num_shallow])

    def gated(self, scores: Tensor, levels: Sequence[Tensor], logits: bool = False) -> Tensor:
        """Gate scores: maps [B, n*C, h, w] or logits [B, 1+C, h, w] of an image with these feature levels."""
        return self.gate_scores(scores, self.shallow(levels), logits)

    def view_seeds(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """How the scores of a training batch, at any size, become the seeds [B, C, H, W] of its classes."""

        def to_seeds(scores: Tensor) -> Tensor:
            own = dict(batch)
            if "pseudo_label" in batch:
                label = batch["pseudo_label"][:, None].float()
                own["pseudo_label"] = interpolate(label, scores.shape[-2:], mode="nearest-exact")[:, 0].long()
            return self.to_seeds(scores.float(), own)[:, -self.num_classes :]

        return to_seeds

    def matched_seeds(self, scores: Tensor, batch: Batch) -> Tensor:
        """The seeds of scores, of which gated classes have the distribution of ungated ones."""
        background, classes = self.to_seeds(scores, batch).tensor_split([-self.num_classes], 1)
        return torch.cat([background, self.match_seeds(classes)], 1)

    def view_scores(self, batch: Batch, scales: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Scores [B, C or 1+C, H, W] of the images and of their mirror images, each averaged over scales."""
        extent = self.hparams["grid_extent"]
        plain, mirrored = (
            multi_scale_scores(
                self.seed_scores, batch["image"], batch["label"], self.stride, tuple(scales), (flip,), extent
            )
            for flip in (False, True)
        )
        return plain, mirrored

    def predict_step(self, batch: Batch, batch_idx: int) -> SeedPrediction:
        """The seeds of a batch, at the images' sizes on disk."""
        plain, mirrored = self.view_scores(batch, self.hparams["scales"])
        maps = self.matched_seeds((plain + mirrored) / 2, batch)
        return SeedPrediction(batch["id"], original_sizes(maps, batch), batch["label"], self.seed_style)

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Count the seeds of a batch, at the validation scales, and return them."""
        return self._count(batch, self.hparams["val_scales"])

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Count the seeds of a batch, at all scales, and return them."""
        return self._count(batch, self.hparams["scales"])

    def compute_metrics(self) -> dict[str, float]:
        """The metrics of a set's seeds by name."""
        return self.scores.compute()

    def _count(self, batch: Batch, scales: Sequence[float]) -> SeedPrediction | None:
        check_masks(batch)
        plain, mirrored = self.view_scores(batch, scales)
        maps = (self.matched_seeds(scores, batch) for scores in ((plain + mirrored) / 2, plain, mirrored))
        seeds = [each[:, -self.num_classes :] for each in maps]
        self.scores.update(batch, *seeds)
        return SeedPrediction(batch["id"], list(seeds[0]), batch["label"], self.seed_style)
