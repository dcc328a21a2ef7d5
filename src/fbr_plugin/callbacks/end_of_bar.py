"""The end of a progress bar's line where a run fails."""

from pytorch_lightning import Callback, LightningModule, Trainer


class EndOfBar(Callback):
    """Ends the line of a progress bar that an error interrupts, so that the error starts on its own line."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Print the end of the line."""
        super().on_exception(trainer, pl_module, exception)
        if trainer.progress_bar_callback is not None and trainer.is_global_zero:
            print(flush=True)
