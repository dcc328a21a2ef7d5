"""CAM: a classifier whose class activation maps are the seeds."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import multilabel_soft_margin_loss

from fbr_plugin.baselines.cam.network import Pooling, thresholded_average
from fbr_plugin.baselines.encoders.protocol import freeze_levels
from fbr_plugin.baselines.tasks.encoder_task import Batch
from fbr_plugin.baselines.tasks.localization_task import LocalizationTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.contract import DenseView, StepOutput
from fbr_plugin.errors import check_choice
from fbr_plugin.functional import cams_to_seeds
from fbr_plugin.training.mixin import FBRMixin


class CAM(LocalizationTask):
    """Class activation maps of a multi-label classifier.

    After `net/resnet50_cam.py` of jiwoon-ahn/irn at a2ece00, which gaviotas/AMN repeats.
    `examples/recipes/voc/amn.yaml` has its settings. Its poly optimizer passes the weight decay, 0.0001, in
    place of the momentum; the default here is no momentum.

    Args:
        num_classes: number of foreground classes C.
        pooling: "gap" for global average pooling, "tap" for thresholded average pooling.
        frozen_levels: number of the encoder's first levels whose weights are not trained. In the released
            code, these are three of "resnet50_irn", up to its second stage.
        optimizer: see `OptimizerConfig`.
        kwargs: see `LocalizationTask` and `SeedTask`.
    """

    def __init__(
        self,
        num_classes: int,
        pooling: Pooling = "gap",
        frozen_levels: int = 0,
        optimizer: OptimizerConfig = OptimizerConfig(lr=0.1, head_lr=1.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, optimizer=optimizer, **kwargs)
        check_choice("pooling", pooling, Pooling)
        freeze_levels(self.encoder, frozen_levels)
        self.head = nn.Conv2d(self.feature_channels, num_classes, 1, bias=False)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map image: [B, 3, H, W] to class logits [B, C] and the encoder's levels."""
        levels = self.encoder(image)
        if self.hparams["pooling"] == "gap":
            pooled = levels[-1].mean((2, 3), keepdim=True)
        else:
            pooled = thresholded_average(levels[-1])
        return self.head(pooled).flatten(1), levels

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """The classification loss, and the maps before ReLU as a view."""
        logits, levels = self(batch["image"])
        loss = multilabel_soft_margin_loss(logits, batch["label"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(logits))
        outputs: StepOutput = {"loss": loss}
        if self.wants_views:
            to_seeds, shallow = self.view_seeds(batch), self.shallow(levels)
            maps = self.head(levels[-1])
            view = DenseView(levels[-1], maps, batch["label"], to_seeds=to_seeds, levels=shallow)
            outputs["views"] = [view]
        return outputs

    def seed_scores(self, image: Tensor, label: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] and label: [B, C] to class activation maps [B, C, h, w], at least 0."""
        levels = self.encoder(image)
        return self.gated(self.head(levels[-1]).relu().float(), levels)

    def scored_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map image: [B, 3, H, W] to class activation maps [B, C, h, w], at least 0, and logits [B, C]."""
        logits, levels = self(image)
        return self.gated(self.head(levels[-1]).relu().float(), levels), logits.float()

    def to_seeds(self, scores: Tensor, batch: Batch) -> Tensor:
        """Mask scores: [B, C, H, W] by the image labels, and divide each map by its maximum."""
        return cams_to_seeds(scores, batch["label"])


class CAMFBR(FBRMixin, CAM):
    """CAM trained with FBR."""
