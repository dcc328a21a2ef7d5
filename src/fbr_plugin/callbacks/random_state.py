"""The state of every global random generator in the checkpoint: a resumed run draws the same numbers."""

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn

from fbr_plugin.distributed import all_gather_object, rank


def collect_random_state() -> dict[str, Any]:
    """The state of this process's global generators, in types that ``torch.load(weights_only=True)`` accepts.

    Returns:
        One state each under `python`, `numpy` and `torch`, one a visible device under `cuda`.
    """
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002 (the global generator is meant)
    key, position = legacy["state"]["key"], legacy["state"]["pos"]
    return {
        "python": random.getstate(),
        "numpy": {**legacy, "state": {"key": key.tolist(), "pos": position}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set this process's global generators to what `collect_random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    torch.cuda.set_rng_state_all(state["cuda"])


class RandomState(Callback):
    """Carry the state of every global random generator of every process in the checkpoint.

    The generators are those of Python, numpy, torch and each CUDA device. They are set when a resumed `fit`
    starts to train, after everything that draws while the run is being set up.

    A data loader draws a number from torch's generator whenever its iterator is created, and Lightning
    creates that of the first resumed epoch earlier than in an uninterrupted run. So a resume at an epoch's
    boundary is exact only with data loaders that have a `generator` of their own.
    """

    def __init__(self) -> None:
        self._loaded: list[dict[str, Any]] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget a state that an earlier run loaded without training."""
        super().setup(trainer, pl_module, stage)
        self._loaded = None

    def state_dict(self) -> dict[str, Any]:
        """The states of all processes in rank order; Lightning calls this on every process."""
        return {"processes": all_gather_object(collect_random_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts."""
        super().load_state_dict(state_dict)
        self._loaded = state_dict["processes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore this process's state after a resume."""
        super().on_train_start(trainer, pl_module)
        if self._loaded is None:
            return
        loaded, self._loaded = self._loaded, None
        saved = len(loaded), len(loaded[0]["cuda"])
        present = trainer.world_size, torch.cuda.device_count()
        if saved != present:
            rank_zero_warn(
                f"The checkpoint holds the random state of {saved[0]} processes with {saved[1]} CUDA "
                f"devices, this run has {present[0]} with {present[1]}: nothing is restored, the run draws "
                "other numbers. Resume with the same number of processes and devices to continue exactly."
            )
            return
        restore_random_state(loaded[rank()])
