"""A recorder of a training, for its figures."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

TERMS = ("train/loss", "fbr/fg", "fbr/bg", "fbr/seg", "fbr/sim", "fbr/total")
EXAMPLES = 5


class Recorder(pl.Callback):
    """Keeps the loss terms and the time of every training step, and images of the last batch."""

    def __init__(self) -> None:
        self.curves: dict[str, tuple[list[int], list[float]]] = {}
        self.times: list[float] = []
        self.images: Tensor = torch.empty(0)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, _: int) -> None:
        """Record the step's time and its logged loss terms."""
        self.times.append(time.perf_counter() - self.start)
        self.images = batch["image"][:EXAMPLES]
        for name in (term for term in TERMS if term in trainer.callback_metrics):
            steps, values = self.curves.setdefault(name, ([], []))
            steps.append(trainer.global_step)
            values.append(trainer.callback_metrics[name].item())
