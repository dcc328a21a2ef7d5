"""Figures of FBR, plotted at an interval during training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fbr_plugin import figures
from fbr_plugin.callbacks.loggers.panels import Histogram, Mask, Overlay, Panel, mask_names
from fbr_plugin.callbacks.loggers.show import show
from fbr_plugin.contract import FBRTerms, GateTerms, WithFBR
from fbr_plugin.data.datamodules.base import class_names
from fbr_plugin.data.transforms import denormalise, to_photo
from fbr_plugin.errors import InputError, WarnOnce
from fbr_plugin.functional import lowered_classes

BINS = 64  # of a histogram
ROWS = 256  # of the memory bank, of which pairs are compared


class FBRFigures(Callback):
    """Plots what FBR sees in a batch: pseudo labels and where the gate lowers them, clusters, the graph.

    The figures are saved as PNGs in the run's folder `figures`, and sent to TensorBoard and, by `WandbRun`,
    to Weights & Biases if the run logs there; the latter gets label maps as overlays with class names, and
    statistics as histograms. If a figure or a logger fails, a single warning is given and training
    continues. Nothing is plotted without FBR.

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
        step, before = trainer.global_step, self._last_step
        self._last_step = step  # several batches with accumulated gradients make one step
        if step == before or not self._due(trainer, step, batch_idx):
            return
        if trainer.is_global_zero and isinstance(pl_module, WithFBR):
            try:
                show(trainer, self._panels(trainer, pl_module, batch), self._folder, step)
            except Exception as error:
                self._warn(f"plotting figures failed, training continues: {error!r}")

    def _due(self, trainer: Trainer, step: int, batch_idx: int) -> bool:
        """Whether a step is plotted."""
        first = trainer.current_epoch == 0 and batch_idx + 1 == trainer.num_training_batches
        last = step == trainer.estimated_stepping_batches
        return self.every_n_steps > 0 and (first or last or step % self.every_n_steps == 0)

    def _panels(self, trainer: Trainer, module: WithFBR, batch: Any) -> dict[str, Panel]:
        """What there is to see of a step."""
        fbr, gate, number = module.fbr_terms, module.gate_terms, self.num_images
        terms = fbr or gate
        if terms is None:
            return {}
        names = class_names(trainer, batch["label"].shape[1])
        normalised = self.images(batch)[:number]
        photos, images = denormalise(normalised), to_photo(normalised)
        maps = {"pseudo labels": terms.pseudo_labels[:number]}
        if gate:
            maps["lowered by the gate"] = lowered_classes(gate.gate, batch["label"])[:number]
        panels = {
            "fbr/pseudo_labels": Panel(
                figures.labels_over_images(images, maps, names),
                [
                    Overlay(photo, {title: _mask(own[index], photo, names) for title, own in maps.items()})
                    for index, photo in enumerate(photos)
                ],
            )
        }
        if fbr:
            panels["fbr/nroi"] = Panel(figures.nroi_clusters(images, fbr.assignments[:number]))
            if fbr.graph.any():  # there were several classes
                panels["fbr/semantic_graph"] = Panel(figures.semantic_graph(fbr.graph, names))
        shown = {**_of_bank(fbr), **_of_gate(gate, batch["label"])}
        if shown:
            panels["fbr/histograms"] = Panel(figures.histograms(shown), shown)
        return panels


def _mask(labels: Tensor, photo: Any, names: Any) -> Mask:
    """A label map [h, w] at the size of its photo [H, W, 3]."""
    grown = F.interpolate(labels[None, None].double(), photo.shape[:2], mode="nearest-exact")[0, 0]
    return Mask(grown.byte().cpu().numpy(), mask_names(names))


def _of_bank(terms: FBRTerms | None) -> dict[str, Histogram]:
    """Cosines between rows of the memory bank: all near 1 if the NROIs have become alike."""
    if terms is None or (filled := int(terms.bank_fill)) < 2:
        return {}
    rows = F.normalize(terms.bank[: min(filled, ROWS)].float(), dim=1)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    return {"cosines in the bank": _histogram((rows @ rows.T)[first, second], -1.0)}


def _of_gate(terms: GateTerms | None, labels: Tensor) -> dict[str, Histogram]:
    """Values of the gate for the classes of each image, and scores of seeds with and without it."""
    if terms is None:
        return {}
    found = {"gate": _histogram(torch.where(labels[..., None, None] > 0, terms.gate, torch.inf), 0.0)}
    edges = np.linspace(0, 1, BINS + 1) ** 2  # as even as the distributions, in the square root
    for title, counts in zip(("ungated seeds", "gated seeds"), terms.distributions, strict=True):
        found[title] = (counts.view(BINS, -1).sum(1).double().cpu().numpy(), edges)
    return found


def _histogram(values: Tensor, least: float) -> Histogram:
    """Counts of the values from `least` to 1; others are left out."""
    counts = torch.histc(values.float().cpu(), BINS, least, 1.0)
    return counts.double().numpy(), np.linspace(least, 1, BINS + 1)
