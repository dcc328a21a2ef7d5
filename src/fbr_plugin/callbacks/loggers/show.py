"""Panels on their way to the run's folder and to the loggers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from fbr_plugin import figures
from fbr_plugin.callbacks.loggers.guard import surviving
from fbr_plugin.callbacks.loggers.panels import Panel
from fbr_plugin.callbacks.loggers.wandb_run import WandbRun


def show(trainer: Trainer, panels: Mapping[str, Panel], folder: Path, step: int) -> None:
    """Save the figures of a step as PNGs, and hand them to TensorBoard and Weights & Biases if chosen.

    Args:
        trainer: its callback `WandbRun` speaks to Weights & Biases.
        panels: by their name, "group/name".
        folder: of the figures.
        step: of the optimizer.
    """
    files = {}
    for name, panel in panels.items():
        if panel.figure is not None:
            files[name] = folder / f"step_{step:06d}_{name.rpartition('/')[2]}.png"
            figures.save(panel.figure, files[name])
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            with surviving(logger):
                for name, file in files.items():
                    pixels = np.asarray(Image.open(file).convert("RGB"))
                    logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set, but not declared
        if isinstance(callback, WandbRun):
            callback.send(trainer, panels, files, step)
