"""Figures of the scores of validation and test: threshold sweep, confusion, IoU of classes, predictions."""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from fbr_plugin.callbacks.loggers.score_panels import Example, Quality, read_quality, score_panels
from fbr_plugin.callbacks.loggers.show import show
from fbr_plugin.contract import MaskPrediction, SeedPrediction
from fbr_plugin.data.datamodules.base import class_names
from fbr_plugin.errors import InputError, WarnOnce


class ScoreFigures(Callback):
    """Plots the scores of a set, and examples of its predictions with their masks.

    In training, the first and the last validation are plotted, and others if enough steps lie between them.
    Seeds are shown at their oracle threshold. The figures go where those of `FBRFigures` go; Weights & Biases
    gets the IoU of the classes and the examples as tables.

    Args:
        every_n_steps: least optimizer steps between figures of validation; 0 plots nothing.
        num_images: number of examples, evenly spaced over the set.
    """

    def __init__(self, every_n_steps: int = 500, num_images: int = 8) -> None:
        if every_n_steps < 0 or num_images < 1:
            raise InputError(f"{every_n_steps=} must be at least 0, {num_images=} at least 1")
        self.every_n_steps = every_n_steps
        self.num_images = num_images
        self._examples: list[Example] = []
        self._quality: Quality | None = None
        self._shown: int | None = None
        self._due = False
        self._warn = WarnOnce()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether this validation is plotted."""
        super().on_validation_start(trainer, pl_module)
        step = trainer.global_step
        first = self._shown is None or trainer.state.fn != TrainerFn.FITTING
        due = first or step - (self._shown or 0) >= self.every_n_steps or _last(trainer)
        self._start(due and not trainer.sanity_checking)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        super().on_test_start(trainer, pl_module)
        self._start(True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep this batch's share of the examples."""
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._keep(outputs, batch, (batch_idx + 1) / max(1, int(trainer.num_val_batches[dataloader_idx])))

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
        self._keep(outputs, batch, (batch_idx + 1) / max(1, int(trainer.num_test_batches[dataloader_idx])))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metrics of the set, on all processes."""
        super().on_validation_epoch_end(trainer, pl_module)
        self._quality = read_quality(pl_module) if self._due else None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the metrics of the set, on all processes."""
        super().on_test_epoch_end(trainer, pl_module)
        self._quality = read_quality(pl_module) if self._due else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot, on the first process."""
        super().on_validation_end(trainer, pl_module)
        self._plot(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plot, on the first process."""
        super().on_test_end(trainer, pl_module)
        self._plot(trainer, "test")

    def _start(self, due: bool) -> None:
        self._due, self._examples, self._quality = due and self.every_n_steps > 0, [], None

    def _keep(self, outputs: Any, batch: Any, share: float) -> None:
        """Keep examples until as large a share of them is there as of the batches."""
        match outputs:
            case SeedPrediction():
                found = [seed[-outputs.labels.shape[1] :] for seed in outputs.seeds]
            case MaskPrediction():
                found = list(outputs.masks)
            case _:
                return
        due = math.ceil(self.num_images * share) - len(self._examples) if self._due else 0
        for index in torch.linspace(0, len(found) - 1, min(due, len(found))).long().tolist():
            kept = (each[index].cpu() for each in (batch["image"], batch["mask"], found))
            self._examples.append(Example(batch["id"][index], *kept))

    def _plot(self, trainer: Trainer, stage: str) -> None:
        folder = trainer.log_dir if self._due else None  # a collective call of all processes
        if self._quality is None:
            return
        self._shown = trainer.global_step  # on all processes, which decide alike when the next ones are due
        if not trainer.is_global_zero:
            return
        try:
            names = class_names(trainer, len(self._quality.confusion) - 1)
            panels = score_panels(self._quality, self._examples, names)
            named = {f"{stage}/{name}": panel for name, panel in panels.items()}
            show(trainer, named, Path(folder or trainer.default_root_dir) / "figures", trainer.global_step)
        except Exception as error:
            self._warn(f"plotting scores failed, the run continues: {error!r}")


def _last(trainer: Trainer) -> bool:
    """Whether this is the last validation of a training: the batches that are left do not reach another."""
    left = trainer.estimated_stepping_batches - trainer.global_step
    return trainer.should_stop or left * trainer.accumulate_grad_batches < (trainer.val_check_batch or 1)
