"""SIGTERM outside the steps of a training."""

import signal
import threading
from collections.abc import Callable

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn


class EndAtSigterm(Callback):
    """Ends the process at once when it is sent SIGTERM, with the status of that signal.

    Lightning ignores the signal in prediction, ends a test with status 0, and with several processes may wait
    forever. Files are written whole or not at all, so nothing is lost.
    """

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the system's handling."""
        super().on_sanity_check_start(trainer, pl_module)
        handle("SIGTERM", signal.SIG_DFL)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the system's handling, which `InterruptionCheckpoint` then replaces."""
        super().on_train_start(trainer, pl_module)
        handle("SIGTERM", signal.SIG_DFL)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the system's handling, but not within a training."""
        super().on_validation_start(trainer, pl_module)
        if trainer.state.fn != TrainerFn.FITTING:
            handle("SIGTERM", signal.SIG_DFL)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the system's handling."""
        super().on_test_start(trainer, pl_module)
        handle("SIGTERM", signal.SIG_DFL)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the system's handling."""
        super().on_predict_start(trainer, pl_module)
        handle("SIGTERM", signal.SIG_DFL)


def handle(name: str, handler: Callable[..., object] | signal.Handlers) -> None:
    """Set the handler of a signal, if the system has the signal; only the main thread may."""
    if name in signal.Signals.__members__ and threading.current_thread() is threading.main_thread():
        signal.signal(signal.Signals[name], handler)
