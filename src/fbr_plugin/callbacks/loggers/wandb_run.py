"""What a run tells Weights & Biases, which is imported only if its logger is chosen."""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn

from fbr_plugin.callbacks.instance_writer import InstanceWriter
from fbr_plugin.callbacks.loggers.description import describe
from fbr_plugin.callbacks.loggers.guard import surviving
from fbr_plugin.callbacks.loggers.panels import Overlay, Panel, Table
from fbr_plugin.callbacks.seed_refiner import SeedRefiner
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data.dataset import Stage
from fbr_plugin.errors import InputError, WarnOnce

BEST = ("miou", "ap_", "gt_known", "max_box", "pxap", "piou")  # scores of which the highest is the best
LONGEST = 320  # pixels of a photo's longer side
ENTRY = 1000  # most bytes by which a table describes an image, or itself
RESERVED = 0.1  # of the budget, for the same share of the training at its end
MB = 1_000_000


class WandbRun(Callback):
    """Describes a run in Weights & Biases, and sends its panels within a budget; idle without its logger.

    The configuration gets the data with their hashes, lists and classes, all settings, versions, seed and
    command; the summary the best scores of validation. Failures become one warning.

    Args:
        budget_mb: most megabytes of figures, photos, tables and artifacts that a run uploads. What exceeds it
            is left out; the last tenth is kept for the last tenth of the training.
        artifacts: upload the best checkpoint, and in `predict` the files that are written, if they fit.
    """

    def __init__(self, budget_mb: float = 100.0, artifacts: bool = False) -> None:
        if not budget_mb >= 0:
            raise InputError(f"budget_mb={budget_mb} must be at least 0")
        self.budget_mb = budget_mb
        self.artifacts = artifacts
        self.spent = 0
        self._best: dict[str, float] = {}
        self._warn = WarnOnce()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe a training."""
        super().on_fit_start(trainer, pl_module)
        self._describe(trainer, "fit", "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe a test."""
        super().on_test_start(trainer, pl_module)
        self._describe(trainer, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe a prediction."""
        super().on_predict_start(trainer, pl_module)
        self._describe(trainer, "predict")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best scores in the summary."""
        super().on_validation_end(trainer, pl_module)
        names = tuple(f"val/{name}" for name in BEST)
        logged = trainer.callback_metrics.items()
        found = {f"best/{name}": float(value) for name, value in logged if name.startswith(names)}
        better = {name: value for name, value in found.items() if value > self._best.get(name, -np.inf)}
        if better and not trainer.sanity_checking:
            self._best |= better
            for logger in _loggers(trainer):
                with surviving(logger):
                    logger.experiment.summary.update(better)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Upload the best checkpoint, if wanted."""
        super().on_fit_end(trainer, pl_module)
        savers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        for saver in sorted(savers, key=lambda each: each.monitor is None):  # without a monitor: the last one
            if saver.best_model_path:
                self._upload(trainer, "checkpoint", [Path(saver.best_model_path)])
                break

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Upload the files that were written, if wanted."""
        super().on_predict_end(trainer, pl_module)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set, but not declared
            if isinstance(callback, SeedWriter | SeedRefiner | InstanceWriter):
                files = sorted(path for path in callback.output_dir.rglob("[!.]*") if path.is_file())
                self._upload(trainer, "predictions", files)

    def send(
        self, trainer: Trainer, panels: Mapping[str, Panel], files: Mapping[str, Path], step: int
    ) -> None:
        """Send the panels of a step, as far as the budget allows.

        Args:
            trainer: with the loggers.
            panels: by name.
            files: the PNGs of their figures, by the same names.
            step: of the optimizer.
        """
        fitting = trainer.state.fn == TrainerFn.FITTING
        last = not fitting or step >= (1 - RESERVED) * trainer.estimated_stepping_batches
        limit = self.budget_mb * MB * (1 if last else 1 - RESERVED)
        for logger in _loggers(trainer):
            with surviving(logger):
                values: dict[str, Any] = {}
                for name, panel in panels.items():
                    value, size = _value(name, panel, files.get(name))
                    if self.spent + size <= limit:
                        self.spent += size
                        values |= value
                    else:
                        self._warn(
                            f"some figures are left out of Weights & Biases, which has received "
                            f"{self.spent / MB:.1f} MB: raise --wandb.budget_mb ({self.budget_mb:g}); all "
                            "are in the folder of the run"
                        )
                if values:
                    logger.log_metrics(values, step)

    def _describe(self, trainer: Trainer, *stages: Stage) -> None:
        folder = trainer.log_dir  # a collective call of all processes
        for logger in _loggers(trainer):
            with surviving(logger):
                logger.log_hyperparams(describe(trainer, folder, stages))

    def _upload(self, trainer: Trainer, kind: str, files: list[Path]) -> None:
        """Upload files as an artifact if that is wanted and they fit the budget."""
        for logger in _loggers(trainer) if self.artifacts else ():
            with surviving(logger):
                import wandb

                size = sum(path.stat().st_size for path in files)
                if self.spent + size > self.budget_mb * MB:
                    warnings.warn(
                        f"the {kind} of {size / MB:.1f} MB is not uploaded: Weights & Biases has received "
                        f"{self.spent / MB:.1f} MB; raise --wandb.budget_mb ({self.budget_mb:g})",
                        stacklevel=2,
                    )
                    continue
                artifact = wandb.Artifact(f"{kind}-{logger.version}", kind)
                for path in files:
                    artifact.add_file(str(path))
                logger.experiment.log_artifact(artifact)
                self.spent += size


def end_run(logger: WandbLogger) -> None:
    """End the run of this process, so that the next one is another, also by its name."""
    with surviving(logger):
        import wandb

        wandb.finish()
        wandb.teardown()  # it keeps the environment of its first run


def _loggers(trainer: Trainer) -> list[WandbLogger]:
    """The loggers of Weights & Biases; none on other processes than the first."""
    return [each for each in trainer.loggers if isinstance(each, WandbLogger) and trainer.is_global_zero]


def _value(name: str, panel: Panel, file: Path | None) -> tuple[dict[str, Any], int]:
    """A panel in the types of Weights & Biases, by name, and the bytes of the files that these make."""
    import wandb

    match panel.native:
        case None:
            return ({name: wandb.Image(str(file))}, file.stat().st_size) if file else ({}, 0)
        case Table(columns, rows):
            cells = [
                [_image(cell) if isinstance(cell, Overlay) else (cell, 0) for cell in row] for row in rows
            ]
            data = [[value for value, _ in row] for row in cells]
            # The table is a file of the run and, with its images, an artifact.
            text = 2 * len(json.dumps([[str(cell) for cell in row] for row in data])) + ENTRY
            size = sum(size for row in cells for _, size in row)
            return {name: wandb.Table(columns=list(columns), data=data)}, text + size
        case Mapping():
            group = name.rpartition("/")[0]
            drawn = {f"{group}/{title}": pair for title, pair in panel.native.items()}
            return {key: wandb.Histogram(np_histogram=pair) for key, pair in drawn.items()}, 0
        case overlays:
            images = [_image(each) for each in overlays]
            return {name: [image for image, _ in images]}, sum(size for _, size in images)


def _image(overlay: Overlay) -> tuple[Any, int]:
    """An overlay, reduced to the longest side, and the bytes of its files."""
    import wandb

    photo = Image.fromarray(overlay.photo)
    photo.thumbnail((LONGEST, LONGEST))
    masks, size = {}, _bytes(photo, "JPEG") + ENTRY
    for title, mask in overlay.masks.items():
        small = Image.fromarray(mask.labels).resize(photo.size, Image.Resampling.NEAREST)
        masks[title] = {"mask_data": np.asarray(small), "class_labels": dict(mask.names)}
        size += _bytes(small, "PNG") + 2 * len(json.dumps(mask.names))
    return wandb.Image(photo, masks=masks, file_type="jpg"), size


def _bytes(image: Image.Image, kind: str) -> int:
    """The size of an image's file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.tell()
