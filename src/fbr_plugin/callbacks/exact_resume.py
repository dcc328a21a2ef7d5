"""State that Lightning's checkpoints lack, so that a resumed run equals an uninterrupted one."""

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer

from fbr_plugin.distributed import all_gather_object, rank

COUNTERS = "optimizer_counters"


def _counters(optimizer: Optimizer) -> dict[str, Any]:
    """The public attributes of an optimizer that are plain numbers."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if not name.startswith("_") and type(value) in (int, float)
    }


def collect_random_state() -> dict[str, Any]:
    """The state of this process's global generators, in types that ``torch.load(weights_only=True)`` accepts.

    Returns:
        One state each under `python`, `numpy` and `torch`, and one per visible device under `cuda`.
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


def begin_next_epoch(loop: dict[str, Any]) -> None:
    """Let a fit loop whose state was saved at the end of an epoch, in `on_train_epoch_end`, begin the next.

    Where `max_steps` limits a training, Lightning's loop would take another batch in the finished epoch.
    """
    epochs = loop["epoch_progress"]
    if epochs["total"]["processed"] == epochs["total"]["completed"]:
        return
    for counts in epochs.values():
        counts["completed"] += 1
        counts["ready"] += 1
    optimizers = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    batches, schedulers = loop["epoch_loop.batch_progress"], loop["epoch_loop.scheduler_progress"]
    for progress in (batches, schedulers, *optimizers.values()):
        progress["current"] = dict.fromkeys(progress["current"], 0)
    batches["is_last_batch"] = False


class ExactResume(Callback):
    """Stores in the checkpoint what an exact resume needs and Lightning leaves out.

    This is, first, the state of every global random generator of every process (Python, numpy, torch and each
    CUDA device). It is restored when a resumed `fit` starts to train, after all random numbers of the setup.
    Second, it is the plain numbers that an optimizer counts in its own attributes, outside its state, such as
    `global_step` of the PolyOptimizer in common use.

    A data loader takes a number from torch's generator whenever its iterator is created, and Lightning
    creates that of the first resumed epoch earlier than in an uninterrupted run. A resume at the boundary of
    an epoch is therefore exact only with data loaders that have their own `generator`.
    """

    def __init__(self) -> None:
        self._loaded: list[dict[str, Any]] | None = None
        self._counters: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget a state that an earlier run loaded without training."""
        super().setup(trainer, pl_module, stage)
        self._loaded, self._counters = None, []

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the numbers that the optimizers count, and a loop that continues exactly."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint[COUNTERS] = [_counters(optimizer) for optimizer in trainer.optimizers]
        if trainer.max_steps != -1:
            begin_next_epoch(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the optimizers' numbers until training starts."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._counters = checkpoint.get(COUNTERS, [])

    def state_dict(self) -> dict[str, Any]:
        """The states of all processes in rank order; Lightning calls this on every process."""
        return {"processes": all_gather_object(collect_random_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts."""
        super().load_state_dict(state_dict)
        self._loaded = state_dict["processes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the optimizers' numbers and this process's random state after a resume."""
        super().on_train_start(trainer, pl_module)
        for optimizer, counters in zip(trainer.optimizers, self._counters, strict=False):
            vars(optimizer).update(counters)
        if self._loaded is None:
            return
        epoch = trainer.fit_loop.epoch_loop
        if not epoch.batch_progress.current.ready:
            epoch.restarting = False  # it begins; otherwise the loop counts a step for a validation
        for each in trainer.checkpoint_callbacks:
            if isinstance(each, ModelCheckpoint) and each._every_n_train_steps:
                # Otherwise the step that is resumed is saved again after the next batch, of which a step with
                # accumulated gradients may need more.
                each._last_global_step_saved = trainer.global_step
        loaded, self._loaded = self._loaded, None
        saved = len(loaded), len(loaded[0]["cuda"])
        present = trainer.world_size, torch.cuda.device_count()
        if saved != present:
            rank_zero_warn(
                f"The checkpoint holds the random state of {saved[0]} processes with {saved[1]} CUDA "
                f"devices, this run has {present[0]} with {present[1]}: nothing is restored, and random "
                "numbers will differ. Resume with as many processes and devices to continue exactly."
            )
            return
        restore_random_state(loaded[rank()])
