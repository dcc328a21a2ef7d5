"""The stages of a pipeline in Weights & Biases: a run each, in one group."""

from pathlib import Path

import pytest
from helpers.wandb_records import OfflineRun
from jsonargparse import Namespace
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from fbr_plugin.pipeline.record import PipelineStage, Scores
from fbr_plugin.pipeline.wandb_stages import log_stages


def stage(name: str, fails: bool = False) -> PipelineStage:
    """A stage whose Trainer logs one number."""

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        WandbLogger(save_dir=folder, offline=True).log_metrics({"train/loss": 2.0}, 1)
        Image.new("RGB", (4, 4)).save(folder / "examples.png")
        if fails:
            raise ValueError("no masks")
        return {"miou": 50.0}

    return PipelineStage(name, {}, make)


def settings(output: Path, logger: str = "pytorch_lightning.loggers.WandbLogger") -> Namespace:
    """Those of the loggers."""
    chosen = Namespace(class_path=logger, init_args=Namespace(offline=True, name=None, project="fbr"))
    return Namespace(output=output, trainer=Namespace(logger=chosen))


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Weights & Biases silent."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def test_each_stage_is_a_run_of_the_group_with_its_scores(tmp_path: Path) -> None:
    (output := tmp_path / "photos").mkdir()
    first, second = log_stages([stage("baseline"), stage("masks", fails=True)], settings(output))
    assert first.make(tmp_path, {}) == {"miou": 50.0}
    with pytest.raises(ValueError, match="no masks"):
        second.make(tmp_path, {})
    runs = sorted(map(OfflineRun, output.glob("wandb/offline-run-*")), key=lambda run: run.name)
    assert [(run.group, run.name) for run in runs] == [("photos", "baseline"), ("photos", "masks")]
    assert ["examples" in run.history for run in runs] == [True, False], "the figures of what is complete"
    assert [run.summary.get("miou") for run in runs] == [50.0, None]
    assert all(run.history["train/loss"] == [2.0] for run in runs)
    assert not (tmp_path / "wandb").exists()


def test_other_loggers_leave_the_stages_as_they_are(tmp_path: Path) -> None:
    stages = [stage("baseline"), stage("masks")]
    assert log_stages(stages, settings(tmp_path, "pytorch_lightning.loggers.CSVLogger")) == stages
    assert log_stages(stages, Namespace(output=tmp_path, trainer=Namespace(logger=None))) == stages
