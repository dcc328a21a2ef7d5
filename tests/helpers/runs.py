"""Short, quiet training runs."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl


def fit(model: Any, data: Any, folder: Path, ckpt_path: Path | None = None, **kwargs: Any) -> pl.Trainer:
    """Train quietly; returns the trainer."""
    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "limit_val_batches": 0}
    trainer = pl.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{**options, **kwargs},
    )
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return trainer


class Losses(pl.Callback):
    """Keeps the loss of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss, and what else reached Lightning."""
        assert "views" not in outputs
        self.values.append(outputs["loss"].item())
