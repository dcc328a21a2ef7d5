"""The checkpoint of a training that SIGTERM or an error in loading data ends."""

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from fbr_plugin.callbacks.ends.sigterm import handle
from fbr_plugin.distributed import any_process, is_distributed

STATUS = 128 + signal.SIGTERM  # of the process, as in a shell


def within_step(trainer: Trainer) -> bool:
    """Whether a step of several batches has begun: a checkpoint does not keep its gradients."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return batches % trainer.accumulate_grad_batches != 0 and not trainer.is_last_batch


class TimedCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, but never within a step of several batches."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Save after a step, if it is time."""
        if not within_step(trainer):
            super().on_train_batch_end(trainer, *args)


class InterruptionCheckpoint(Checkpoint):
    """Saves a checkpoint when SIGTERM or an error in loading data ends a training, which resumes exactly.

    After SIGTERM, the training ends where a checkpoint keeps everything: after the current step (with several
    processes, which agree on it, after the next) or, if a validation or the end of the epoch follows, after
    that. A training in its last step is finished first. The exit status is 143. Lightning's own handling
    saves nothing, exits with status 0, and with several processes may wait forever.

    An error while a batch is fetched, such as the death of a data worker, comes between two steps: what they
    have done is saved, except with several processes, of which the others are not at that point.

    Args:
        path: file of the checkpoint; None takes `checkpoints/interrupted.ckpt` in the Trainer's folder.
        remedy: how to continue, for the message; "{}" stands for the checkpoint.

    Attributes:
        signalled: whether SIGTERM came during the training.
    """

    def __init__(
        self, path: str | Path | None = None, remedy: str = "continue with fit --ckpt_path {}"
    ) -> None:
        super().__init__()
        self.path = path and Path(path)
        self.remedy = remedy
        self.signalled = False
        self._saved = False
        self._asked: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handler of SIGTERM and PyTorch's of SIGCHLD."""
        super().on_train_start(trainer, pl_module)
        self.signalled = self._saved = False
        self._asked = None
        handle("SIGTERM", self._note)
        # PyTorch's raises an error for a dead data worker anywhere, also in the middle of a step. Without it,
        # the error is raised where the next batch is fetched.
        handle("SIGCHLD", signal.SIG_DFL)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """End after SIGTERM, unless a validation or the end of the epoch follows."""
        super().on_train_batch_end(trainer, pl_module, *args)
        *_, batch_idx = args
        batches = batch_idx if trainer.check_val_every_n_epoch else trainer.fit_loop.total_batch_idx
        every = trainer.val_check_batch if trainer.enable_validation else None
        validates = every is not None and (batches + 1) % every == 0
        if not trainer.is_last_batch and not validates:
            self._end(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End after SIGTERM, within a training."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._end(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End after SIGTERM."""
        super().on_train_epoch_end(trainer, pl_module)
        self._end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save a checkpoint after an error between two steps, and tell where it is."""
        super().on_exception(trainer, pl_module, exception)
        batches = trainer.fit_loop.epoch_loop.batch_progress.total
        between = trainer.training and batches.ready == batches.completed > 0 and not within_step(trainer)
        if isinstance(exception, Exception) and between and trainer.world_size == 1:
            with suppress(OSError):  # the disk may be what has failed
                self._save(trainer)
        if self._saved and trainer.is_global_zero:
            path = self._path(trainer)
            print(f"the training is saved in {path}: {self.remedy.format(path)}", file=sys.stderr)

    def finish(self) -> None:
        """Exit with status 143 if SIGTERM came in the last step of a training that has ended by itself."""
        if self.signalled:
            sys.exit(STATUS)

    def _note(self, *_: object) -> None:
        self.signalled = True

    def _end(self, trainer: Trainer) -> None:
        """Save a checkpoint and end if any process was sent SIGTERM, unless the training is finished."""
        if self._agree() and not within_step(trainer) and not trainer.fit_loop.done:
            self._save(trainer)
            raise SIGTERMException(STATUS)

    def _agree(self) -> bool:
        """Whether any process was sent SIGTERM; with several, before the previous call.

        The answer to that call is there by now, and the host would wait for the GPU to read a new one.
        """
        if not is_distributed():
            return self.signalled
        previous, self._asked = self._asked, any_process(self.signalled)
        return previous is not None and bool(previous)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self._path(trainer), weights_only=False)
        self._saved = True

    def _path(self, trainer: Trainer) -> Path:
        return self.path or Path(trainer.default_root_dir) / "checkpoints" / "interrupted.ckpt"
