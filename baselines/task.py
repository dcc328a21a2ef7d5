"""What the baselines share: inference and score of seeds, parameter groups, optimizer."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

from baselines.encoders import build_encoder
from baselines.optimizer import build_optimizer, check_optimizer
from baselines.scores import SeedScores
from fbr_plugin.pipeline.inference import multi_scale_scores

Batch = dict[str, Any]


class SeedTask(LightningModule):
    """A baseline: an encoder, and new layers that a subclass sets as `self.head`.

    A subclass defines `training_step`, which returns ``{"loss": ...}`` and, where `wants_views` is true,
    ``"views"`` beside it; `seed_scores`; and `finish`.

    Args:
        num_classes: number of foreground classes C.
        optimizer: name of a class in torch.optim.
        lr: learning rate of the encoder.
        head_lr: learning rate of the new layers.
        poly_power: power of the decay (1 - step / steps) ** power; 0 keeps the learning rates constant.
        encoder: "small" (for small images), or the name of a timm model.
        output_stride: image pixels per pixel of the encoder's last level; None takes 16, or 4 for "small".
        pretrained: download timm's weights of the encoder.
        weights: local file of the encoder's weights: a state dict, or a checkpoint of a baseline.
        weight_decay: weight decay of all layers.
        warmup_steps: steps of linear warm-up of the learning rates.
        scales: image scales averaged, each with its mirror image, in test and predict.
        val_scales: the same in validation.
    """

    wants_views = False
    head: nn.Module

    def __init__(
        self,
        num_classes: int,
        optimizer: str,
        lr: float,
        head_lr: float,
        poly_power: float,
        encoder: str = "resnet50",
        output_stride: int | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        weight_decay: float = 1e-4,
        warmup_steps: int = 0,
        scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0),
        val_scales: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__()
        # A checkpoint holds all weights: to load it needs neither the file nor the network.
        self.save_hyperparameters(ignore=["pretrained", "weights"])
        check_optimizer(optimizer)
        self.num_classes = num_classes
        self.encoder = build_encoder(encoder, output_stride, pretrained, weights)
        self.feature_channels = self.encoder.channels[-1]
        self.level_channels = sum(self.encoder.channels)
        self.stride = self.encoder.stride
        self.scores = SeedScores(num_classes)

    def setup(self, stage: str) -> None:
        """Compare the number of classes with the data's."""
        super().setup(stage)
        found = getattr(getattr(self.trainer, "datamodule", None), "num_classes", self.num_classes)
        if found != self.num_classes:
            raise ValueError(
                f"the model has num_classes={self.num_classes}, the data has {found} foreground classes; "
                f"build the model with num_classes={found}"
            )

    def seed_scores(self, image: Tensor, label: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] and label: [B, C] to raw scores [B, C or 1+C, h, w] at stride `stride`."""
        raise NotImplementedError

    def finish(self, scores: Tensor, batch: Batch) -> Tensor:
        """Turn scores: [B, C or 1+C, H, W] at the image's size into a seed of the same shape in [0, 1]."""
        raise NotImplementedError

    def class_gate(self, levels: Sequence[Tensor]) -> Tensor | None:
        """What a plug-in knows of each class at the pixels of feature levels: [B, C, h, w] in (0, 1]."""
        return None

    def gated(self, scores: Tensor, levels: Sequence[Tensor], logits: bool = False) -> Tensor:
        """Gate scores: maps [B, n*C, h, w] or logits [B, 1+C, h, w] of an image with these feature levels."""
        gate = self.class_gate(levels)
        if gate is None:
            return scores
        if gate.shape[-2:] != scores.shape[-2:]:
            gate = interpolate(gate, scores.shape[-2:], mode="bilinear", align_corners=False)
        if logits:
            return torch.cat([scores[:, :1], scores[:, 1:] + gate.log()], 1)
        return scores * gate.repeat(1, scores.shape[1] // self.num_classes, 1, 1)

    def view_scores(self, batch: Batch, scales: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Scores [B, C or 1+C, H, W] of the images and of their mirror images, each averaged over scales."""
        plain, mirrored = (
            multi_scale_scores(self.seed_scores, view, batch["label"], self.stride, tuple(scales), flip=False)
            for view in (batch["image"], batch["image"].flip(-1))
        )
        return plain, mirrored.flip(-1)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The seeds of a batch, at the sizes that the images had before the data module shrank them.

        Returns:
            "id": B names, "seed": B score maps [C or 1+C, H, W], "label": [B, C].
        """
        plain, mirrored = self.view_scores(batch, self.hparams["scales"])
        maps = self.finish((plain + mirrored) / 2, batch)
        sizes = batch["size"].tolist() if "size" in batch else [maps.shape[-2:]] * len(maps)
        seeds = [
            seed
            if tuple(seed.shape[-2:]) == tuple(size)
            else interpolate(seed[None], size, mode="bilinear")[0]
            for seed, size in zip(maps, sizes, strict=True)
        ]
        return {"id": batch["id"], "seed": seeds, "label": batch["label"]}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the seeds of a batch, at the validation scales."""
        self._count(batch, self.hparams["val_scales"])

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor] | None:
        """Count the seeds of a batch, at all scales."""
        self._count(batch, self.hparams["scales"])
        return None

    def on_validation_epoch_start(self) -> None:
        """Start a new count."""
        super().on_validation_epoch_start()
        self.scores.reset()

    def on_test_epoch_start(self) -> None:
        """Start a new count."""
        super().on_test_epoch_start()
        self.scores.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the set."""
        super().on_validation_epoch_end()
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the set."""
        super().on_test_epoch_end()
        self._log_scores("test")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters by learning rate, in the form that torch's optimizers take."""
        return [
            {"params": list(self.encoder.parameters()), "lr": self.hparams["lr"]},
            {"params": list(self.head.parameters()), "lr": self.hparams["head_lr"]},
        ]

    def configure_optimizers(self) -> Any:
        """The optimizer over `parameter_groups` and its schedule over the steps of the run."""
        return build_optimizer(
            self.hparams["optimizer"],
            self.parameter_groups(),
            self.hparams["weight_decay"],
            total=self.trainer.estimated_stepping_batches,
            power=self.hparams["poly_power"],
            warmup_steps=self.hparams["warmup_steps"],
        )

    def _count(self, batch: Batch, scales: Sequence[float]) -> None:
        if "mask" not in batch:
            raise ValueError(
                f"there is no mask to score the seed of {batch['id'][0]!r} with: give the data module the "
                "folder of masks, use predict in place of test, or fit with limit_val_batches=0"
            )
        plain, mirrored = self.view_scores(batch, scales)
        seeds = (self.finish(scores, batch) for scores in ((plain + mirrored) / 2, plain, mirrored))
        self.scores.update(batch, *(seed[:, -self.num_classes :] for seed in seeds))

    def _log_scores(self, stage: str) -> None:
        for name, value in self.scores.compute().items():
            # In double precision, so that a figure equals that of the files that predict writes.
            self.log(f"{stage}/{name}", torch.tensor(value, dtype=torch.float64), sync_dist=True)
