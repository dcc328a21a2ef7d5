"""Figures of FBR, plotted at an interval during training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from fbr_plugin import figures
from fbr_plugin.contract import FBRTerms, GateTerms, NamedClasses, WithFBR
from fbr_plugin.data.datamodules.base import running_data
from fbr_plugin.data.transforms import denormalise, to_photo
from fbr_plugin.errors import InputError, WarnOnce


class FBRFigures(Callback):
    """Plots pseudo labels and background clusters over a batch's images, and the semantic graph.

    The figures are saved as PNGs in the run's folder `figures`, and sent to TensorBoard and Weights & Biases
    if the run logs there; the latter gets the pseudo labels as mask overlays with class names. If a figure or
    a logger fails, a single warning is given and training continues. Nothing is plotted without FBR.

    Args:
        every_n_steps: optimizer steps between figures, which are also plotted at the end of the first epoch
            and at the last step; 0 plots nothing.
        num_images: number of images to show, the first of the batch.
    """

    def __init__(self, every_n_steps: int = 500, num_images: int = 4) -> None:
        for name, value, least in (("every_n_steps", every_n_steps, 0), ("num_images", num_images, 1)):
            if value < least:
                raise InputError(f"{name}={value} must be at least {least}")
        self.every_n_steps = every_n_steps
        self.num_images = num_images
        self._folder = Path()
        self._last_step = 0
        self._warn = WarnOnce()

    def images(self, batch: Any) -> Tensor:
        """The normalised images [B, 3, H, W] of a batch; override it for batches of another form."""
        images: Tensor = batch["image"]
        return images

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Get the run's folder, which is a collective call of all processes."""
        super().on_train_start(trainer, pl_module)
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "figures"
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Plot on the first process at the end of a step, if it is due."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        terms = (pl_module.fbr_terms or pl_module.gate_terms) if isinstance(pl_module, WithFBR) else None
        step, before = trainer.global_step, self._last_step
        self._last_step = step  # several batches with accumulated gradients make one step
        if terms is None or step == before or not self._due(trainer, step, batch_idx):
            return
        if trainer.is_global_zero:
            try:
                self._draw(trainer, terms, batch, step)
            except Exception as error:
                self._warn(f"plotting figures failed, training continues: {error!r}")

    def _due(self, trainer: Trainer, step: int, batch_idx: int) -> bool:
        """Whether a step is plotted."""
        first = trainer.current_epoch == 0 and batch_idx + 1 == trainer.num_training_batches
        last = step == trainer.estimated_stepping_batches
        return self.every_n_steps > 0 and (first or last or step % self.every_n_steps == 0)

    def _draw(self, trainer: Trainer, terms: FBRTerms | GateTerms, batch: Any, step: int) -> None:
        """Plot the figures of a step, save them, and send them to the loggers."""
        data = running_data(trainer)
        if isinstance(data, NamedClasses):
            names: Sequence[str] = data.class_names
        else:
            names = [f"class {number}" for number in range(1, batch["label"].shape[1] + 1)]
        normalised = self.images(batch)[: self.num_images]
        photos, images = denormalise(normalised), to_photo(normalised)
        labels = terms.pseudo_labels[: self.num_images]
        drawn = {
            "pseudo_labels": figures.seeds_over_images(images, labels, names),
            "nroi": figures.nroi_clusters(images, terms.assignments[: self.num_images]),
        }
        if isinstance(terms, FBRTerms) and terms.graph.any():  # there were several classes
            drawn["semantic_graph"] = figures.semantic_graph(terms.graph, names)
        for name, figure in drawn.items():
            figures.save(figure, self._folder / f"step_{step:06d}_{name}.png")
        overlays = _overlays(labels, photos.shape[1:3], names)
        for logger in trainer.loggers:
            self._log(logger, drawn, photos, overlays, step)

    def _log(
        self,
        logger: Logger,
        drawn: dict[str, Figure],
        photos: NDArray[np.uint8],
        overlays: list[dict[str, Any]],
        step: int,
    ) -> None:
        """Send the figures to a logger; a failure becomes a warning."""
        try:
            if isinstance(logger, WandbLogger):
                logger.log_image("fbr/pseudo_labels", list(photos), step, masks=overlays)
                for name in drawn.keys() - {"pseudo_labels"}:
                    logger.log_image(f"fbr/{name}", [figures.to_array(drawn[name])], step)
            elif isinstance(logger, TensorBoardLogger):
                for name, figure in drawn.items():
                    pixels = figures.to_array(figure)
                    logger.experiment.add_image(f"fbr/{name}", pixels, step, dataformats="HWC")
        except Exception as error:
            self._warn(f"logging figures failed, training continues: {error!r}")


def _overlays(labels: Tensor, size: tuple[int, ...], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Label maps [N, h, w], resized to the images, in W&B's format of masks with class names."""
    named = dict(enumerate(["background", *class_names]))
    grown = F.interpolate(labels[:, None].double(), size, mode="nearest-exact")[:, 0].byte().cpu().numpy()
    return [{"pseudo_labels": {"mask_data": mask, "class_labels": named}} for mask in grown]
