"""A training that SIGTERM or an error in loading data ends is saved, and continues exactly."""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset

from fbr_plugin.callbacks.ends.interruption import InterruptionCheckpoint, TimedCheckpoint
from fbr_plugin.callbacks.ends.sigterm import EndAtSigterm
from fbr_plugin.callbacks.exact_resume import ExactResume

pytestmark = pytest.mark.filterwarnings("ignore:.*ended before the epoch ended.*")
STEPS, EPOCH = 8, 4


class Ones(Dataset[torch.Tensor]):
    """Ones, which make every batch the same; one of them may not be readable."""

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return EPOCH

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == self.broken:
            raise OSError("the drive is gone")
        return torch.ones(1)


class Recording(LightningModule):
    """Records steps and validations, and sends its process a signal in one of them."""

    def __init__(self, killed: tuple[str, int] | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.layer.weight)
        self.killed = killed
        self.seen: list[tuple[str, int]] = []
        self.logged: list[int] = []  # the steps for loggers

    def see(self, what: str) -> None:
        self.seen.append((what, self.global_step))
        if self.seen[-1] == self.killed:
            os.kill(os.getpid(), signal.SIGTERM)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.see("step")
        self.logged.append(self.trainer.fit_loop.epoch_loop._batches_that_stepped)
        return self.layer(batch).square().sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        if batch_idx == 1:
            self.see("validation")

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.see("prediction")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the handlers of signals."""
    known = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGCHLD)}
    yield
    for each, handler in known.items():
        signal.signal(each, handler)


def trainer(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        callbacks=[*callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit(
    folder: Path, module: Recording, resume: Path | None = None, broken: int | None = None, **options: Any
) -> InterruptionCheckpoint:
    saver = InterruptionCheckpoint(folder / "cut.ckpt", "continue {}")
    limits = {"num_sanity_val_steps": 0, **({} if "max_steps" in options else {"max_epochs": 2}), **options}
    run = trainer(folder, saver, ExactResume(), **limits)
    data = Ones(broken)
    run.fit(module, DataLoader(data), DataLoader(data), ckpt_path=resume, weights_only=True)
    return saver


@pytest.mark.parametrize(
    ("killed", "options"),
    [
        (("step", 1), {}),
        (("step", 1), {"val_check_interval": 2}),
        (("step", 3), {}),
        (("step", 3), {"limit_val_batches": 0}),
        (("validation", 2), {"val_check_interval": 2}),
        (("validation", 4), {}),
        (("step", 2), {"max_steps": 7}),
        (("step", 3), {"max_steps": 7, "limit_val_batches": 0}),
        (("step", 3), {"max_steps": 7, "val_check_interval": 3}),
        (("step", 1), {"max_steps": 4, "limit_val_batches": 0, "accumulate_grad_batches": 3}),
        (("step", 0), {"accumulate_grad_batches": 2}),
        (("validation", 0), {"accumulate_grad_batches": 2, "val_check_interval": 1}),
    ],
    ids=[
        "in an epoch",
        "before a validation in an epoch",
        "before the epoch's validation",
        "at the end of an epoch",
        "in a validation in an epoch",
        "in the epoch's validation",
        "in a run limited by steps",
        "at the end of an epoch of a run limited by steps",
        "the same, with a validation before it",
        "the same, with steps of several batches",
        "in a step of two batches",
        "in a validation in a step",
    ],
)
def test_sigterm_saves_what_continues_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], killed: tuple[str, int], options: dict[str, Any]
) -> None:
    whole, first, second = Recording(), Recording(killed), Recording()
    fit(tmp_path, whole, **options)
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, first, **options)
    assert ended.value.code == 143
    path = tmp_path / "cut.ckpt"
    assert f"the training is saved in {path}: continue {path}\n" in capsys.readouterr().err
    fit(tmp_path, second, path, **options)
    assert first.seen + second.seen == whole.seen
    assert first.logged + second.logged == whole.logged
    assert torch.equal(second.layer.weight, whole.layer.weight)


def test_a_timed_checkpoint_is_not_within_a_step(tmp_path: Path) -> None:
    saved: list[int] = []

    class Saver(TimedCheckpoint):
        def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
            saved.append(trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    saver = Saver(tmp_path, train_time_interval=timedelta(0))
    data = DataLoader(Ones())
    trainer(tmp_path, saver, max_epochs=1, accumulate_grad_batches=2).fit(Recording(), data)
    assert saved == [2, 4]


@pytest.mark.parametrize("options", [{}, {"max_steps": 7}])
def test_sigterm_in_the_last_step_lets_the_training_end(tmp_path: Path, options: dict[str, Any]) -> None:
    module = Recording(("step", options.get("max_steps", STEPS) - 1))
    saver = fit(tmp_path, module, limit_val_batches=0, **options)
    assert not (tmp_path / "cut.ckpt").exists()
    with pytest.raises(SystemExit) as ended:
        saver.finish()
    assert ended.value.code == 143
    fit(tmp_path, Recording()).finish()


def test_an_error_between_two_steps_saves_them(tmp_path: Path) -> None:
    whole, first, second = Recording(), Recording(), Recording()
    fit(tmp_path, whole)
    with pytest.raises(OSError, match="the drive is gone"):
        fit(tmp_path, first, broken=2)
    fit(tmp_path, second, tmp_path / "cut.ckpt")
    assert first.seen == [("step", 0), ("step", 1)]
    assert first.seen + second.seen == whole.seen
    assert torch.equal(second.layer.weight, whole.layer.weight)


def test_an_error_within_a_step_saves_nothing(tmp_path: Path) -> None:
    class Failing(Recording):
        def see(self, what: str) -> None:
            super().see(what)
            if self.global_step == 2:
                raise OSError("within the step")

    with pytest.raises(OSError, match="within"):
        fit(tmp_path, Failing())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [Trainer.predict, Trainer.validate])
def test_sigterm_outside_a_training_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any]
) -> None:
    """The system's handling, which would end this process, is stood in for by one that notes it."""
    handled: list[Any] = []
    monkeypatch.setattr(
        "fbr_plugin.callbacks.ends.sigterm.handle", lambda name, handler: handled.append((name, handler))
    )
    call(trainer(tmp_path, EndAtSigterm()), Recording(), DataLoader(Ones()))
    assert handled == [("SIGTERM", signal.SIG_DFL)]
