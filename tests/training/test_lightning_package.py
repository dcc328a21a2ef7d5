"""Modules of the package `lightning`, whose classes are not those of pytorch_lightning."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from fbr_plugin import DenseView, FBRMixin, SeedPrediction, ViewShape
from fbr_plugin.callbacks.seed_writer import SeedWriter

pl = pytest.importorskip("lightning.pytorch")


class Theirs(pl.LightningModule):
    """A network of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.view_shape = ViewShape(channels=8, num_classes=3)
        self.encoder, self.classifier = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 3, 1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        features = self.encoder(batch["image"])
        cams = self.classifier(features)
        loss = nn.functional.multilabel_soft_margin_loss(cams.mean((2, 3)), batch["label"])
        return {"loss": loss, "views": [DenseView(features, cams, batch["label"])]}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> SeedPrediction:
        features = self.encoder(batch["image"])
        scores = self.gate_scores(self.classifier(features).relu(), [features])
        return SeedPrediction(batch["id"], scores, batch["label"])

    def configure_callbacks(self) -> Any:
        return pl.callbacks.Timer()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class TheirsFBR(FBRMixin, Theirs):
    """The variant."""


def trainer(**options: Any) -> Any:
    """A silent Trainer."""
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", enable_checkpointing=False, **silent, **options)


def variant() -> TheirsFBR:
    """One with the losses and the gate, from a fixed seed."""
    pl.seed_everything(0, verbose=False)
    return TheirsFBR(fbr={"preset": "amn", "bank_size": 64}, gate={"enabled": True})


def test_a_module_of_lightning_trains_resumes_and_predicts(tmp_path: Path) -> None:
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]]
    samples = [{"image": images[i], "label": labels[i], "id": str(i)} for i in range(8)]
    batches = DataLoader(samples, batch_size=4, generator=torch.Generator())
    whole, half, resumed = variant(), variant(), variant()
    trainer(max_epochs=2).fit(whole, batches)
    first = trainer(max_epochs=1)
    first.fit(half, batches)
    first.save_checkpoint(tmp_path / "half.ckpt")
    last = trainer(max_epochs=2, callbacks=[SeedWriter(tmp_path)])
    last.fit(resumed, batches, ckpt_path=tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(half.encoder.weight, whole.encoder.weight)
    assert {"fbr/total", "gate/mean_gate"} <= {*last.callback_metrics}
    last.predict(resumed, batches, return_predictions=False)
    assert {path.name for path in tmp_path.glob("*.npy")} == {f"{i}.npy" for i in range(8)}


def test_the_mixin_comes_first() -> None:
    with pytest.raises(TypeError, match=r"the mixin comes first: class Wrong\(FBRMixin, Theirs\)"):

        class Wrong(Theirs, FBRMixin):
            """In the wrong order."""
