"""A figure of true and predicted boxes, plotted at the end of a test."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from fbr_plugin import figures
from fbr_plugin.contract import BoxPrediction
from fbr_plugin.data.transforms import to_photo
from fbr_plugin.errors import InputError


class LocalizationFigure(Callback):
    """Plots examples from a test set with boxes to `figures/boxes.png` in the run's folder.

    It shows what the module's `test_step` returns as `BoxPrediction`, on the first process. Nothing is
    plotted in a test without boxes.

    Args:
        num_images: number of examples, evenly spaced over the set.
    """

    def __init__(self, num_images: int = 10) -> None:
        if num_images < 1:
            raise InputError(f"num_images={num_images} must be at least 1")
        self.num_images = num_images
        self._examples: list[tuple[Any, ...]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the examples of an earlier test."""
        super().on_test_start(trainer, pl_module)
        self._examples = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep this batch's share of the examples."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if not isinstance(outputs, BoxPrediction):
            return
        batches = max(1, int(trainer.num_test_batches[dataloader_idx]))
        due = -(-self.num_images * (batch_idx + 1) // batches) - len(self._examples)
        photos = to_photo(batch["image"])
        for index in torch.linspace(0, len(photos) - 1, min(due, len(photos))).long().tolist():
            own = (outputs.maps[index], batch["boxes"][index], outputs.boxes[index])
            self._examples.append((photos[index], *(value.cpu() for value in own)))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot the examples."""
        super().on_test_end(trainer, pl_module)
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "figures"
        if self._examples and trainer.is_global_zero:
            columns = [list(column) for column in zip(*self._examples[: self.num_images], strict=True)]
            figures.save(figures.boxes_over_images(*columns), folder / "boxes.png")
