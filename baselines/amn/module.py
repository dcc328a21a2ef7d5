"""AMN: a segmentation network, trained on two-threshold labels of CAMs and conditioned on image labels.

After Lee et al., Threshold Matters in WSSS: Manipulating the Activation for the Robust and Accurate
Segmentation Model Against Thresholds (CVPR 2022).
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from fbr_plugin.baselines.amn.network import ConditionedASPP, ConditionInit
from fbr_plugin.baselines.deeplab.losses import balanced_cross_entropy
from fbr_plugin.baselines.tasks.encoder_task import Batch
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.baselines.tasks.seed_task import SeedTask
from fbr_plugin.contract import DenseView, StepOutput
from fbr_plugin.errors import InputError, check_choice
from fbr_plugin.postprocess.seeds import logits_to_seeds
from fbr_plugin.training.mixin import FBRMixin


class AMN(SeedTask):
    """The activation manipulation network: it needs `pseudo_label` in its training batches.

    `examples/voc_amn_fbr.yaml` has the settings of the released code (gaviotas/AMN at 75c1999).

    Args:
        num_classes: number of foreground classes C.
        rates: dilation rates of the head; smaller ones for small feature grids.
        smoothing: share of a pixel's target that goes to the other classes.
        condition_init: where the scale of the features by the image labels starts: "identity" near 1, or
            "uniform" near 0, as in the released code, which almost erases the features at first.
        optimizer: see `OptimizerConfig`.
        kwargs: see `SeedTask`.
    """

    def __init__(
        self,
        num_classes: int,
        rates: tuple[int, ...] = (6, 12, 18, 24),
        smoothing: float = 0.4,
        condition_init: ConditionInit = "identity",
        optimizer: OptimizerConfig = OptimizerConfig(name="Adam", lr=5e-6, head_lr=1e-4, poly_power=0.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, optimizer=optimizer, **kwargs)
        check_choice("condition_init", condition_init, ConditionInit)
        if not 0 <= smoothing < 1:
            raise InputError(f"smoothing must lie in [0, 1), got {smoothing}")
        self.head = ConditionedASPP(self.feature_channels, num_classes, rates, condition_init)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Map image: [B, 3, H, W] and label: [B, C] to logits [B, 1+C, h, w], scaled features and levels."""
        levels = self.encoder(image)
        return *self.head(levels[-1], label), levels

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """The balanced cross-entropy on the pseudo labels, and the logits as a view."""
        if "pseudo_label" not in batch:
            raise InputError(
                "AMN trains on pseudo labels, and the batch has no 'pseudo_label': make them with a trained "
                "CAM and `fbr-plugin predict ... --thresholds FG BG`, and give the data module their folder "
                "as pseudo_label_dir"
            )
        logits, features, levels = self(batch["image"], batch["label"])
        pseudo_label = batch["pseudo_label"][:, None].float()
        target = interpolate(pseudo_label, logits.shape[-2:], mode="nearest-exact")[:, 0].long()
        loss = balanced_cross_entropy(logits, target, self.hparams["smoothing"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(logits))
        outputs: StepOutput = {"loss": loss}
        if self.wants_views:
            to_seeds, shallow = self.view_seeds(batch), self.shallow(levels)
            view = DenseView(features, logits, batch["label"], to_seeds=to_seeds, levels=shallow)
            outputs["views"] = [view]
        return outputs

    def seed_scores(self, image: Tensor, label: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] and label: [B, C] to logits [B, 1+C, h, w]."""
        logits, _, levels = self(image, label)
        return self.gated(logits.float(), levels, logits=True)

    def to_seeds(self, scores: Tensor, batch: Batch) -> Tensor:
        """Turn scores: [B, 1+C, H, W] into AMN's seeds, with the CAM labels if the batch has them."""
        return logits_to_seeds(scores, batch["label"], batch.get("pseudo_label"))


class AMNFBR(FBRMixin, AMN):
    """AMN trained with FBR."""
