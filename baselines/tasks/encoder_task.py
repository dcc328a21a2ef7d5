"""The base of all networks: an encoder with new layers, their optimizer, and the scores of a whole set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from typing_extensions import Self

from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.config import merged, preset
from fbr_plugin.contract import NamedClasses, PipelineNetwork
from fbr_plugin.data.datamodules.base import running_data
from fbr_plugin.errors import InputError
from fbr_plugin.functional import resize
from fbr_plugin.metrics.segmentation import warn_without_class

Batch = dict[str, Any]


class EncoderTask(PipelineNetwork, LightningModule):
    """An encoder, and new layers that a subclass sets as `self.head`.

    A subclass defines `training_step`. To be scored, it sets `self.scores`, adds each batch to it in
    `validation_step` and `test_step`, and defines `compute_metrics`.

    Args:
        num_classes: number of foreground classes C.
        optimizer: an `OptimizerConfig`, or a mapping of the fields that differ from the class's default.
        encoder: "small" (for small images), "resnet38d", "resnet50_irn", "resnet101_deeplab", the name of a
            timm model, "torchvision/NAME" for a model of torchvision, or the class path of a module that
            follows the Protocol `Encoder`.
        output_stride: image pixels per pixel of the encoder's last level; None takes 16 for models of timm
            and torchvision, and an encoder's own otherwise.
        pretrained: download the weights of timm or torchvision.
        weights: local file of the encoder's weights: a state dict, or a checkpoint of a baseline.

    Attributes:
        default_stride: the output stride of models of timm and torchvision if none is given.
        stride: image pixels per pixel of the encoder's last level.
        frozen: modules that stay in evaluation mode.
        ranked_by: scores of a checkpoint, of which the first that is logged ranks it; the higher the better.
    """

    default_stride = 16
    frozen: Sequence[nn.Module] = ()
    ranked_by: ClassVar[tuple[str, ...]] = ()
    head: nn.Module
    scores: Any

    def __init__(
        self,
        num_classes: int,
        optimizer: OptimizerConfig = OptimizerConfig(),
        encoder: str = "resnet50",
        output_stride: int | None = None,
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        # A checkpoint holds all weights of its own: loading it needs no other file and no download.
        self.save_hyperparameters(ignore=["pretrained", "weights", "combine_with"])
        self.optimizer = merged(preset(type(self), "optimizer"), optimizer)
        if self.optimizer.bias_lr != 1 and type(self).parameter_groups is not EncoderTask.parameter_groups:
            raise InputError(
                f"{type(self).__name__} has groups of parameters of its own, so its bias_lr must be 1, got "
                f"{self.optimizer.bias_lr}"
            )
        # Plain types: a checkpoint with a dataclass in it would not load under weights_only.
        self.save_hyperparameters({"optimizer": asdict(self.optimizer)})
        self.num_classes = num_classes
        self.encoder = build_encoder(encoder, output_stride, pretrained, weights, self.default_stride)
        self.feature_channels = self.encoder.channels[-1]
        self.stride = self.encoder.stride

    def freeze_norm(self) -> None:
        """Freeze the encoder's batch normalisation, which then keeps its statistics and is not trained."""
        self.frozen = [each for each in self.encoder.modules() if isinstance(each, nn.BatchNorm2d)]
        for norm in self.frozen:
            norm.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but leave frozen modules in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def setup(self, stage: str) -> None:
        """Compare the number of classes with the data's."""
        super().setup(stage)
        data = running_data(self.trainer)
        if isinstance(data, NamedClasses) and (found := len(data.class_names)) != self.num_classes:
            raise InputError(
                f"the model has num_classes={self.num_classes}, the data has {found} foreground classes; "
                f"build the model with num_classes={found}"
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights; raise if they are of other layers."""
        try:
            return super().load_state_dict(state_dict, *args, **kwargs)
        except RuntimeError as error:
            last = str(error).splitlines()[-1].strip()
            raise InputError(
                f"the weights are not of {type(self).__name__} with these settings, encoder="
                f"{self.hparams['encoder']!r} among them: give those that they were saved with ({last[:200]})"
            ) from error

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> Any:
        """Raise if the images are smaller than a pixel of the encoder's last level."""
        height, width = batch["image"].shape[-2:]
        if min(height, width) < self.stride:
            raise InputError(
                f"training images of {width}x{height} pixels are smaller than the encoder's stride, "
                f"{self.stride}: raise crop_size"
            )
        return super().on_train_batch_start(batch, batch_idx)

    def compute_metrics(self) -> dict[str, float]:
        """The metrics of a set by name, from the counts in `self.scores`."""
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
            *self.optimizer.groups(self.encoder.named_parameters(), self.optimizer.lr),
            *self.optimizer.groups(self.head.named_parameters(), self.optimizer.head_lr),
        ]

    def configure_optimizers(self) -> Any:
        """The optimizer over `parameter_groups` and its schedule over the steps of the run."""
        total = self.trainer.estimated_stepping_batches
        epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        epoch = math.ceil(epoch) if math.isfinite(epoch) else epoch
        return self.optimizer.build(self.parameter_groups(), total, epoch)

    def _log_scores(self, stage: str) -> None:
        figures = self.compute_metrics()
        if stage == "test":
            warn_without_class(figures.get("recall", 0.0))
        first = next((name for name in self.ranked_by if name in figures), None)
        for name, value in figures.items():
            # In double precision, so that the value equals that of the files that predict writes.
            exact = torch.tensor(value, dtype=torch.float64)
            shown = stage == "val" and name == first
            self.log(f"{stage}/{name}", exact, prog_bar=shown, sync_dist=True)


def check_masks(batch: Batch) -> None:
    """Raise unless the images of a batch come with their masks."""
    if "mask" not in batch:
        raise InputError(
            f"there is no mask to score {batch['id'][0]!r} with: give the data module the folder of masks, "
            "use predict instead of test, or fit with limit_val_batches=0"
        )


def original_sizes(maps: Tensor, batch: Batch) -> list[Tensor]:
    """Maps [B, K, H, W] of a batch, each resized to [K, H', W'], its image's size on disk."""
    sizes = batch["size"].tolist() if "size" in batch else [list(maps.shape[-2:])] * len(maps)
    return [resize(each[None], size)[0] for each, size in zip(maps, sizes, strict=True)]
