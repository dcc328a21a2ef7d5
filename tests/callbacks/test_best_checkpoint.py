"""The best checkpoint, what else the command line adds to a run, and the report at its end."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from fbr_plugin.callbacks.best_checkpoint import BestCheckpoint
from fbr_plugin.callbacks.end_of_bar import EndOfBar
from fbr_plugin.cli.lightning.report import fit_report, predict_report

SCORES = [0.2, 0.7, 0.5, 0.4]


class Scored(LightningModule):
    """Logs one of these scores in each epoch."""

    def __init__(self, name: str = "val/b", fails: bool = False) -> None:
        super().__init__()
        seed_everything(0, verbose=False)
        self.name, self.fails = name, fails
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.fails:
            raise ValueError("broken")
        loss = (self.layer(batch) + torch.rand(())).square().mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log(self.name, SCORES[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(
    folder: Path, model: LightningModule, epochs: int, resume: str | None = None, **options: Any
) -> Trainer:
    """A trainer after some epochs."""
    kept = [ModelCheckpoint(), BestCheckpoint(["val/a", "val/b"])]
    options = {"logger": False, "enable_progress_bar": False, "callbacks": kept, **options}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    images = [torch.ones(2), torch.zeros(2)]
    trainer.fit(model, DataLoader(images), DataLoader(images[:1]), ckpt_path=resume)
    return trainer


def best(trainer: Trainer) -> ModelCheckpoint:
    """The callback of the best checkpoint."""
    (found,) = (each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint))
    return found


def test_the_best_epoch_is_kept_also_by_a_resumed_run(tmp_path: Path) -> None:
    first = train(tmp_path, Scored(), 3)
    assert Path(best(first).best_model_path).name == "best-epoch=1-step=4.ckpt"
    last = next(tmp_path.rglob("epoch=2*.ckpt"))
    resumed = train(tmp_path, Scored(), 4, str(last))
    assert float(best(resumed).best_model_score) == pytest.approx(0.7)
    assert [path.name for path in tmp_path.rglob("best*")] == ["best-epoch=1-step=4.ckpt"]


def test_a_run_resumed_in_another_folder_keeps_the_best_of_both(tmp_path: Path) -> None:
    train(tmp_path / "first", Scored(), 3)
    last = next(tmp_path.rglob("epoch=2*.ckpt"))
    resumed = train(tmp_path / "second", Scored(), 4, str(last))
    assert float(best(resumed).best_model_score) == pytest.approx(0.7)
    assert [path.name for path in tmp_path.rglob("best*")] == ["best-epoch=1-step=4.ckpt"]
    assert "best-epoch=1-step=4.ckpt (val/b 0.700)" in fit_report(resumed)


def test_without_a_score_the_last_one_alone_is_kept(tmp_path: Path) -> None:
    train(tmp_path, Scored("val/c"), 2)
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["epoch=1-step=4.ckpt"]


def test_training_is_the_same_with_the_callbacks(tmp_path: Path) -> None:
    callbacks = [BestCheckpoint(["val/b"]), LearningRateMonitor("step"), EndOfBar()]
    logger = CSVLogger(tmp_path, name="", version="")
    trainers = [train(tmp_path, Scored(), 3, callbacks=each, logger=logger) for each in ([], callbacks)]
    weights = [trainer.lightning_module.state_dict() for trainer in trainers]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_report_names_scores_and_paths(tmp_path: Path) -> None:
    trainer = train(tmp_path, Scored(), 3)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").touch()
    lines = fit_report(trainer).splitlines()
    assert lines[0].split() == ["val/b", "0.500"]
    assert lines[1].split() == ["run", str(tmp_path)]
    paths = sorted(tmp_path.rglob("*.ckpt"))
    assert sorted(lines[2:4]) == [f"best checkpoint {paths[0]} (val/b 0.700)", f"last checkpoint {paths[1]}"]
    assert lines[4].split() == ["figures", str(tmp_path / "figures"), "(1", "files)"]


@pytest.mark.parametrize(
    ("suffix", "labels", "kind"),
    [
        (".npy", False, "seeds"),
        (".png", True, "labels"),
        (".png", False, "masks"),
        (".json", False, "instances"),
    ],
)
def test_the_files_of_predict_are_counted(suffix: str, labels: bool, kind: str, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}{suffix}").touch()
    assert predict_report(tmp_path, labels) == f"{kind}: 2 files in {tmp_path}"


@pytest.mark.parametrize("shown", [True, False])
def test_an_error_starts_on_its_own_line(
    shown: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="broken"):
        train(tmp_path, Scored(fails=True), 1, callbacks=EndOfBar(), enable_progress_bar=shown)
    assert capsys.readouterr().out.endswith("\n") == shown
