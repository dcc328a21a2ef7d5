"""Instances made of predicted seeds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from fbr_plugin.callbacks.instance_writer import InstanceWriter
from fbr_plugin.contract import MaskPrediction, SeedPrediction
from fbr_plugin.data.datamodules.base import collate
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.instances import Instances

LABEL = torch.tensor([1.0, 0.0, 1.0])


class Seeds(LightningModule):
    """Predicts seeds in [0, 1] from the images themselves."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        return SeedPrediction(batch["id"], list(batch["image"]), batch["label"])


class Thresholds:
    """An instance of each class where its score exceeds the background."""

    def instances(
        self,
        image: Tensor,
        scores: Tensor,
        classes: Tensor,
        background: float = 1,
        *,
        cluster_threshold: float = 2.5,
        join: bool = False,
    ) -> Instances:
        assert image.shape == (1, 3, *scores.shape[1:])
        return {"masks": scores > background, "labels": classes, "scores": scores.amax((1, 2))}


def predict(module: LightningModule, writer: InstanceWriter) -> dict[str, Tensor]:
    """The images whose seeds were predicted, by id."""
    images = {name: torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(7)) for name in ("a", "b.c")}
    photo = np.zeros((4, 5, 3), np.uint8)
    items = [{"id": name, "image": image, "label": LABEL, "photo": photo} for name, image in images.items()]
    loader = DataLoader(items, batch_size=2, collate_fn=collate)
    Trainer(accelerator="cpu", callbacks=[writer], logger=False, enable_progress_bar=False).predict(
        module, loader, return_predictions=False
    )
    return images


def test_the_classes_of_an_image_are_raised_and_handed_over_by_number(tmp_path: Path) -> None:
    images = predict(Seeds(), InstanceWriter(tmp_path, Thresholds(), power=2.0, background=0.3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.c.json"]
    for name, image in images.items():
        found = read_instances(tmp_path / f"{name}.json", 3)
        assert found["labels"].tolist() == [1, 3]
        assert np.array_equal(found["masks"], image[[0, 2]] ** 2 > 0.3)
        np.testing.assert_allclose(found["scores"], (image[[0, 2]] ** 2).amax((1, 2)))


def test_instances_are_not_made_of_masks(tmp_path: Path) -> None:
    class Masks(Seeds):
        def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
            return MaskPrediction(batch["id"], [torch.zeros(4, 5)] * 2)

    with pytest.raises(TypeError, match=r"Masks.predict_step returned MaskPrediction: .*instances are made"):
        predict(Masks(), InstanceWriter(tmp_path, Thresholds()))
    assert list(tmp_path.iterdir()) == []
