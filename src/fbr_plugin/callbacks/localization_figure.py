"""Figures of true boxes and masks and of what was predicted, plotted at the end of a test."""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from fbr_plugin import figures
from fbr_plugin.contract import BoxPrediction
from fbr_plugin.data.transforms import to_photo
from fbr_plugin.errors import InputError
from fbr_plugin.metrics import PixelResult, PixelSweep


class LocalizationFigure(Callback):
    """Plots a test of localization to `figures/` in the run's folder, on the first process.

    Where images have boxes, `boxes.png` shows examples of what the module's `test_step` returns as
    `BoxPrediction`. Where they have masks, `masks.png` shows its score maps, and `precision_recall.png` the
    curve whose area is PxAP. Nothing is plotted in a test without boxes or masks.

    Args:
        num_images: number of examples, evenly spaced over the set.
    """

    def __init__(self, num_images: int = 10) -> None:
        if num_images < 1:
            raise InputError(f"num_images={num_images} must be at least 1")
        self.num_images = num_images
        self._examples: list[dict[str, Any]] = []
        self._pixels: PixelResult | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the examples of an earlier test."""
        super().on_test_start(trainer, pl_module)
        self._examples, self._pixels = [], None

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
            own = {"map": outputs.maps[index], "found": outputs.boxes[index]}
            own |= {key: batch[key][index] for key in ("boxes", "object_mask") if key in batch}
            kept = {key: value.cpu() for key, value in own.items()}
            self._examples.append({"photo": photos[index], **kept})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the precision and recall of the whole set."""
        super().on_test_epoch_end(trainer, pl_module)
        metrics = [metric for metric in pl_module.modules() if isinstance(metric, PixelSweep)]
        for metric in metrics:
            if metric.update_called:
                self._pixels = metric.compute()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot the examples and the curve."""
        super().on_test_end(trainer, pl_module)
        if not self._examples or not trainer.is_global_zero:
            return
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "figures"
        shown = self._examples[: self.num_images]
        columns = {key: [example[key] for example in shown] for key in shown[0]}
        photos, maps = columns["photo"], columns["map"]
        if "boxes" in columns:
            drawn = figures.boxes_over_images(photos, maps, columns["boxes"], columns["found"])
            figures.save(drawn, folder / "boxes.png")
        if "object_mask" in columns:
            drawn = figures.object_masks_over_images(photos, maps, columns["object_mask"])
            figures.save(drawn, folder / "masks.png")
        if self._pixels is not None and not math.isnan(self._pixels.pxap):
            found = self._pixels
            title = f"PxAP {found.pxap:.1f}, PIoU {found.piou:.1f}"
            curve = (found.thresholds, found.precision, found.recall, found.oracle_threshold, title)
            figures.save(figures.precision_recall(*curve), folder / "precision_recall.png")
