"""FBR for your own baseline, whether you can edit it or not. It runs in seconds and downloads nothing:

python examples/own_baseline.py
"""

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn.functional import multilabel_soft_margin_loss

from fbr_plugin import (
    Baseline,
    DenseView,
    FBRConfig,
    FBRMixin,
    GateConfig,
    SeedPrediction,
    ViewShape,
    capture,
)
from fbr_plugin.contract import StepOutput
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.functional import cams_to_seeds
from fbr_plugin.postprocess.multi_scale import upsample_scores


def small_encoder() -> nn.Sequential:
    """Any network will do: image [B, 3, H, W] to features [B, 64, H/4, W/4]."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, stride=2, padding=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
    )


# 1. A baseline of yours hands over its dense outputs when it is asked to.


class Mine(Baseline, LightningModule):
    """A classifier with class activation maps."""

    view_shape = ViewShape(channels=64, num_classes=5)  # tells FBR its sizes

    def __init__(self) -> None:
        super().__init__()
        self.encoder = small_encoder()
        self.classifier = nn.Conv2d(64, 5, 1, bias=False)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> StepOutput:
        features = self.encoder(batch["image"])  # [B, 64, h, w]
        maps = self.classifier(features)  # [B, 5, h, w]; logits [B, 6, h, w] with the background first do too
        outputs: StepOutput = {"loss": multilabel_soft_margin_loss(maps.mean((2, 3)), batch["label"])}
        self.log("loss", outputs["loss"])
        if self.wants_views:
            outputs["views"] = [DenseView(features, maps, batch["label"])]
        return outputs

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> SeedPrediction:
        """Seeds, as `fbr-plugin predict --model own_baseline.MineFBR` writes them."""
        image, label = batch["image"], batch["label"]
        features = self.encoder(image)
        # With the class-aware gate, the maps are lowered and the seeds get back their scale; without a gate,
        # both stay as they are.
        maps = self.gate_scores(self.classifier(features).relu(), [features])
        seeds = cams_to_seeds(upsample_scores(maps, image.shape[-2:], stride=4), label)
        return SeedPrediction(batch["id"], self.match_seeds(seeds), label)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


class MineFBR(FBRMixin, Mine):
    """Mine, trained with FBR; in this folder `fbr-plugin fit --model own_baseline.MineFBR` finds it, too."""


# 2. A baseline that you cannot edit returns its loss and nothing else; it takes part from outside.


class Theirs(LightningModule):
    """As a library may have it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = small_encoder()
        self.classifier = nn.Conv2d(64, 5, 1, bias=False)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = self.classifier(self.encoder(batch["image"])).mean((2, 3))
        loss = multilabel_soft_margin_loss(logits, batch["label"])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


class TheirsFBR(FBRMixin, Theirs):
    """Theirs, trained with FBR."""

    view_shape = ViewShape(channels=64, num_classes=5)
    features = capture("encoder")  # keeps what this submodule puts out in a step, so it does not run twice

    def dense_views(self, batch: dict[str, Any], outputs: Any) -> list[DenseView]:
        return [DenseView(self.features, self.classifier(self.features), batch["label"])]


def main() -> None:
    """Train both for a few steps and print what was logged."""
    # A classifier from scratch has no useful maps at first: the bank fills, the contrasts wait.
    settings = FBRConfig(warmup_steps=10)
    for model_class in (MineFBR, TheirsFBR):
        seed_everything(0)
        trainer = Trainer(
            max_steps=30,
            log_every_n_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(
            model_class(fbr=settings, gate=GateConfig(enabled=True)), SyntheticDataModule(num_images=160)
        )
        print(model_class.__name__)
        for name, value in trainer.callback_metrics.items():
            print(f"  {name:24}{value:10.4f}")


if __name__ == "__main__":
    main()
