"""What all networks share: an encoder with new layers, their optimizer, and the scores of a whole set."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.tasks.optimizer import build_optimizer, check_optimizer

Batch = dict[str, Any]


class EncoderTask(LightningModule):
    """An encoder, and new layers that a subclass sets as `self.head`.

    A subclass defines `training_step`. One that is scored sets `self.scores`, adds each batch to it in
    `validation_step` and `test_step`, and defines `figures`.

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

    Attributes:
        default_stride: the output stride that None takes of timm's encoders.
        prediction_only: arguments that training does not depend on: the pipeline keeps a training when they
            change.
        stride: image pixels per pixel of the encoder's last level.
    """

    default_stride = 16
    prediction_only: ClassVar[tuple[str, ...]] = ()
    head: nn.Module
    scores: Any

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
    ) -> None:
        super().__init__()
        # A checkpoint holds all weights: to load it needs neither the file nor the network.
        self.save_hyperparameters(ignore=["pretrained", "weights"])
        check_optimizer(optimizer)
        self.num_classes = num_classes
        self.encoder = build_encoder(encoder, output_stride, pretrained, weights, self.default_stride)
        self.feature_channels = self.encoder.channels[-1]
        self.stride = self.encoder.stride

    def setup(self, stage: str) -> None:
        """Compare the number of classes with the data's."""
        super().setup(stage)
        found = getattr(getattr(self.trainer, "datamodule", None), "num_classes", self.num_classes)
        if found != self.num_classes:
            raise ValueError(
                f"the model has num_classes={self.num_classes}, the data has {found} foreground classes; "
                f"build the model with num_classes={found}"
            )

    def compute_metrics(self) -> dict[str, float]:
        """The figures of a set by name, from what `self.scores` has counted."""
        raise NotImplementedError

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

    def _log_scores(self, stage: str) -> None:
        for name, value in self.compute_metrics().items():
            # In double precision, so that a figure equals that of the files that predict writes.
            self.log(f"{stage}/{name}", torch.tensor(value, dtype=torch.float64), sync_dist=True)


def check_masks(batch: Batch) -> None:
    """Raise unless the images of a batch come with their masks."""
    if "mask" not in batch:
        raise ValueError(
            f"there is no mask to score {batch['id'][0]!r} with: give the data module the folder of masks, "
            "use predict in place of test, or fit with limit_val_batches=0"
        )


def original_sizes(maps: Tensor, batch: Batch) -> list[Tensor]:
    """Maps [B, K, H, W] of a batch, each [K, H', W'] at its image's size before the data module shrank it."""
    sizes = batch["size"].tolist() if "size" in batch else [list(maps.shape[-2:])] * len(maps)
    return [resized(each, size) for each, size in zip(maps, sizes, strict=True)]


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps [K, H, W] at another size, [K, *size]: as they are where they have it, else bilinearly."""
    return maps if [*maps.shape[-2:]] == [*size] else interpolate(maps[None], size, mode="bilinear")[0]
