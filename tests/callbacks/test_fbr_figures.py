"""Figures at an interval, to the run's folder and to loggers that may fail."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from fbr_plugin.callbacks.fbr_figures import FBRFigures
from fbr_plugin.contract import FBRTerms, GateTerms
from fbr_plugin.data import WSSSDataModule

NAMES = ("boat", "train")
KINDS = ("histograms", "nroi", "pseudo_labels", "semantic_graph")


class Bare(LightningModule):
    """A baseline of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.weight * batch["image"].mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WithTerms(Bare):
    """Leaves the terms of a step behind, as `FBRMixin` does."""

    fbr_terms: FBRTerms | None = None
    gate_terms: GateTerms | None = None
    graph = torch.eye(2)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        scalars, filled = [torch.zeros(())] * 6, torch.tensor(3)
        labels = torch.randint(0, 3, (len(batch["image"]), 4, 4))
        clusters = torch.where(labels == 0, 1, -1)
        self.fbr_terms = FBRTerms(
            *scalars, filled, *scalars[:3], labels, clusters, self.graph, torch.randn(4, 2)
        )
        return super().training_step(batch, batch_idx)


class Images(WSSSDataModule):
    """Random batches with class names."""

    class_names = NAMES

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            [{"image": torch.randn(3, 16, 16), "label": torch.ones(2)} for _ in range(12)], batch_size=3
        )


def fit(
    folder: Path,
    module: LightningModule,
    logger: Logger | list[Logger] | bool = False,
    every_n_steps: int = 2,
    **kwargs: Any,
) -> list[str]:
    """Train 4 steps with figures, and return the names of the files drawn."""
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[FBRFigures(every_n_steps, num_images=2)],
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
        **{"max_steps": 4, **kwargs},
    )
    trainer.fit(module, datamodule=Images())
    return sorted(file.name for file in folder.rglob("step_*.png"))


def expected(*steps: int) -> list[str]:
    return [f"step_{step:06d}_{kind}.png" for step in steps for kind in KINDS]


def test_figures_are_drawn_at_the_interval(tmp_path: Path) -> None:
    assert fit(tmp_path, WithTerms()) == expected(2, 4)
    assert (tmp_path / "figures" / "step_000002_nroi.png").is_file()


def test_accumulated_batches_are_drawn_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Path] = []
    monkeypatch.setattr("fbr_plugin.figures.save", lambda figure, path: saved.append(path))
    fit(tmp_path, WithTerms(), max_steps=3, accumulate_grad_batches=2)
    assert len(saved) == len({*saved}) == 2 * len(KINDS)  # of steps 2 and 3


def test_the_first_epoch_and_the_last_step_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []
    monkeypatch.setattr("fbr_plugin.figures.save", lambda figure, path: saved.append(path.name))
    fit(tmp_path, WithTerms(), every_n_steps=500, max_steps=9)
    assert sorted(saved) == expected(4, 9)
    fit(tmp_path, WithTerms(), every_n_steps=0, max_steps=9)
    assert len(saved) == len(expected(4, 9))


def test_a_bare_baseline_draws_nothing(tmp_path: Path) -> None:
    assert fit(tmp_path, Bare()) == []


def test_other_processes_draw_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    assert fit(tmp_path, WithTerms()) == []


def test_the_run_folder_of_a_logger_gets_the_figures(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="run", version=3)
    assert fit(tmp_path, WithTerms(), logger) == expected(2, 4)
    assert (tmp_path / "run" / "version_3" / "figures" / "step_000004_semantic_graph.png").is_file()


@pytest.mark.slow
def test_tensorboard_gets_every_figure(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    fit(tmp_path, WithTerms(), logger)
    events = event_accumulator.EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert sorted(events.Tags()["images"]) == [f"fbr/{kind}" for kind in KINDS]
    assert [event.step for event in events.Images("fbr/nroi")] == [2, 4]


@pytest.mark.slow
def test_a_failing_logger_is_warned_about_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = TensorBoardLogger(tmp_path, name=None, version="broken")
    working = TensorBoardLogger(tmp_path, name=None, version="run")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left")

    images: list[str] = []
    monkeypatch.setattr(broken.experiment, "add_image", fail)
    monkeypatch.setattr(working.experiment, "add_image", lambda name, *args, **kwargs: images.append(name))
    with pytest.warns(
        UserWarning, match=r"TensorBoardLogger failed, the run continues: .*no space"
    ) as caught:
        assert fit(tmp_path, WithTerms(), [broken, working]) == expected(2, 4)
    assert sum("TensorBoardLogger failed" in str(warning.message) for warning in caught) == 1
    assert len(images) == 2 * len(KINDS)


def test_a_batch_that_cannot_be_drawn_does_not_stop_training(tmp_path: Path) -> None:
    class Tuples(WithTerms):
        def on_before_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> Any:
            return (batch["image"],)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step({"image": batch[0]}, batch_idx)

    module = Tuples()
    with pytest.warns(UserWarning, match="plotting figures failed, training continues") as caught:
        assert fit(tmp_path, module) == []
    assert sum("figures failed" in str(warning.message) for warning in caught) == 1
    assert module.trainer.global_step == 4


def test_a_graph_without_negatives_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WithTerms, "graph", torch.zeros(2, 2))
    drawn = fit(tmp_path, WithTerms(), max_steps=2)
    assert drawn == [f"step_000002_{kind}.png" for kind in KINDS[:-1]]


def test_an_interval_of_0_draws_nothing(tmp_path: Path) -> None:
    assert fit(tmp_path, WithTerms(), every_n_steps=0) == []


@pytest.mark.parametrize(("name", "value", "least"), [("every_n_steps", -1, 0), ("num_images", 0, 1)])
def test_settings_that_are_too_small_are_refused(name: str, value: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"{name}={value} must be at least {least}"):
        FBRFigures(**{name: value})
