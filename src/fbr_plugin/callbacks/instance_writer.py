"""Instances made from predicted seeds, and written one file per image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import nn

from fbr_plugin.callbacks.seed_refiner import raised_seeds
from fbr_plugin.data.instances.files import instances_path, write_instances
from fbr_plugin.instances import InstanceDetector


class InstanceWriter(BasePredictionWriter):
    """Makes instances of each predicted seed and writes them as `ID.json`, so that seeds need not be stored.

    Args:
        output_dir: folder of the files, created if missing.
        detector: a network such as IRN, which makes instances of seeds.
        power: exponent applied to the seeds first.
        background: score of the background, which the detector compares with those of the instances.
        options: other arguments of the detector's `instances`, as of `InstanceDetector`.
    """

    def __init__(
        self,
        output_dir: Path,
        detector: InstanceDetector,
        power: float = 1.0,
        background: float = 0.25,
        **options: Any,
    ) -> None:
        super().__init__("batch")
        self.output_dir = output_dir
        self.detector = detector
        self.power = power
        self.background = background
        self.options = options

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the detector to the device of the network that predicts seeds."""
        super().on_predict_start(trainer, pl_module)
        if isinstance(self.detector, nn.Module):
            self.detector.to(pl_module.device).eval()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the file of each image of the batch."""
        for name, seed, image, _ in raised_seeds(pl_module, prediction, batch, self.power):
            scores, classes = (torch.from_numpy(each).to(image.device) for each in (seed.scores, seed.keys))
            given = image[None], scores, classes + 1, self.background
            found = self.detector.instances(*given, **self.options)
            write_instances(instances_path(self.output_dir, name), found)
