"""The callbacks that `fit` adds to those of the settings."""

import warnings

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint

from fbr_plugin.baselines.tasks.encoder_task import EncoderTask
from fbr_plugin.callbacks.best_checkpoint import BestCheckpoint
from fbr_plugin.callbacks.ends.nonfinite_steps import NonFiniteSteps


def run_callbacks(trainer: Trainer, model: LightningModule) -> list[Callback]:
    """What skips steps that are not finite, logs the learning rate, and keeps the best checkpoint.

    The best checkpoint is kept beside Lightning's last one.

    Args:
        trainer: whose own settings go first: one without loggers or checkpoints gets none, and one with
            another `ModelCheckpoint` keeps that alone.
        model: which names the scores that rank its checkpoints.
    """
    added: list[Callback] = []
    given = {type(callback) for callback in trainer.callbacks}  # type: ignore[attr-defined]
    if NonFiniteSteps not in given:
        added.append(NonFiniteSteps())
    if trainer.loggers and LearningRateMonitor not in given:
        warnings.filterwarnings("ignore", ".*models that have no learning rate schedulers")
        added.append(LearningRateMonitor("step"))
    kept = trainer.checkpoint_callbacks
    last_alone = all(isinstance(each, ModelCheckpoint) and each.monitor is None for each in kept)
    if kept and last_alone and isinstance(model, EncoderTask) and model.ranked_by:
        added.append(BestCheckpoint([f"val/{name}" for name in model.ranked_by]))
    return added
