"""The checkpoint with the best score of the validation."""

from collections.abc import Sequence
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the highest score of the validation.

    A score that is counted with masks makes it an oracle's choice.

    Args:
        scores: names of scores as they are logged; the first that the validation logs decides. Without any,
            nothing is saved.
    """

    def __init__(self, scores: Sequence[str]) -> None:
        super().__init__(filename="best-{epoch}-{step}", mode="max", save_on_train_epoch_end=False)
        self.scores = scores

    @property
    def state_key(self) -> str:
        """The same before and after the first validation, which names the monitor."""
        return type(self).__name__

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the best score also in a run that continues in another folder, where Lightning forgets it."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})
        self.monitor = state_dict["monitor"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a checkpoint, if it is the best one so far."""
        self.monitor = next((name for name in self.scores if name in trainer.callback_metrics), None)
        if self.monitor is not None:
            super().on_validation_end(trainer, pl_module)
