"""Weights & Biases: an offline run read back, its budget, and failures of every call."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
from helpers.wandb_records import OfflineRun
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from wandb.sdk.wandb_config import Config
from wandb.sdk.wandb_run import Run
from wandb.sdk.wandb_summary import SummaryDict

from fbr_plugin.baselines import CAMFBR
from fbr_plugin.callbacks.fbr_figures import FBRFigures
from fbr_plugin.callbacks.loggers.guard import guard
from fbr_plugin.callbacks.loggers.panels import Panel
from fbr_plugin.callbacks.loggers.wandb_run import MB, WandbRun
from fbr_plugin.callbacks.score_figures import ScoreFigures
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data import Loading, SyntheticDataModule

PANELS = {
    *("train/loss", "lr-AdamW/pg1", "lr-AdamW/pg2", "epoch", "trainer/global_step"),
    *(f"fbr/{term}" for term in ("fg", "bg", "seg", "total", "num_queries", "bank_fill")),
    *("fbr/positive_similarity", "fbr/negative_similarity"),
    *("gate/mean_gate", "gate/bank_fill", "gate/class_absent_clusters", "gate/reclusters"),
    *("fbr/pseudo_labels", "fbr/nroi", "fbr/semantic_graph"),
    *("fbr/cosines in the bank", "fbr/gate", "fbr/ungated seeds", "fbr/gated seeds"),
    *("val/threshold_sweep", "val/confusion_matrix", "val/iou", "val/predictions"),
    *("val/miou_oracle", "val/miou_label_free", "val/threshold_oracle", "val/threshold_label_free"),
    *("val/recall", "val/precision", "val/fp_cooccurring", "val/fp_other"),
}


def save_small(figure: Figure, path: Path) -> None:
    """Save a few pixels in place of a figure, since drawing takes longest; other tests draw."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep Weights & Biases silent, its caches in a folder of the tests', and figures small."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("wandb")))
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setattr("fbr_plugin.figures.save", save_small)
        wandb.teardown()  # it keeps the environment of an earlier run in this process
        yield
        wandb.teardown()


def fit(folder: Path, steps: int, *callbacks: Any, log: bool = True) -> Trainer:
    """Train on 8 scenes, 2 batches an epoch, with the losses but for one and with the gate."""
    seed_everything(0, verbose=False)
    fbr = {"enabled": True, "bank_size": 500, "min_bank": 1, "weight_sim": 0.0, "dim": 8}
    optimizer = {"name": "AdamW", "lr": 3e-3, "head_lr": 3e-3}
    gate = {"enabled": True, "recluster_every": 1, "num_clusters": 8}
    model = CAMFBR(5, encoder="small", scales=(1.0,), optimizer=optimizer, fbr=fbr, gate=gate)
    saver = ModelCheckpoint(folder, monitor="val/miou_oracle", mode="max")
    logger = WandbLogger("tiny", folder, offline=True) if log else False
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=logger,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=[saver, FBRFigures(steps // 2, 2), ScoreFigures(1, 3), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    data = SyntheticDataModule(num_images=8, size=32, loading=Loading(4, eval_batch_size=8))
    guard(trainer).fit(model, data)
    return trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[OfflineRun, WandbRun]:
    """A training and a prediction, offline, and what they left on disk."""
    folder, speaker = tmp_path_factory.mktemp("run"), WandbRun(artifacts=True)
    trainer = fit(folder, 4, speaker, LearningRateMonitor("step"))
    writer = SeedWriter(folder / "masks", thresholds=(0.3, 0.1))
    trainer.callbacks.append(writer)
    trainer.predict(trainer.lightning_module, datamodule=trainer.datamodule, return_predictions=False)
    wandb.finish()
    wandb.teardown()  # waits until the file is complete
    (found,) = folder.glob("wandb/offline-run-*")
    return OfflineRun(found), speaker


def test_every_panel_is_there_and_none_is_constant(run: tuple[OfflineRun, WandbRun]) -> None:
    history = run[0].history
    assert {name for name in history if not name.startswith("_")} == PANELS
    numbers = {name: values for name, values in history.items() if isinstance(values[0], float | int)}
    assert len(numbers) > len(PANELS) / 2
    assert [name for name, values in numbers.items() if len({*values}) == 1] == []


def test_masks_have_the_names_of_the_classes(run: tuple[OfflineRun, WandbRun]) -> None:
    offline, _ = run
    labels = offline.config["_wandb"]["mask/class_labels"]
    named = {key.split("wandb_delimeter_")[1]: value["value"] for key, value in labels.items()}
    assert {"pseudo labels", "lowered by the gate"} <= named.keys()
    assert {*map(str, named["pseudo labels"].items())} >= {"('0', 'background')", "('1', 'boat')"}
    media = offline.folder / "files" / "media" / "images"
    assert len(list(media.glob("fbr/pseudo_labels_*.jpg"))) == 4  # two images, twice
    assert len(list(media.glob("mask/fbr/pseudo_labels_*.mask.png"))) >= 4


def test_tables_can_be_read(run: tuple[OfflineRun, WandbRun]) -> None:
    tables = run[0].folder / "files" / "media" / "table" / "val"
    iou = json.loads(min(tables.glob("iou_*")).read_text())
    assert iou["columns"] == ["class", "IoU, oracle", "IoU, label_free"]
    assert [row[0] for row in iou["data"]] == ["background", "boat", "train", "sheep", "car", "chair"]
    shown = json.loads(min(tables.glob("predictions_*")).read_text())
    assert shown["columns"] == ["image", "classes", "IoU", "recall", "precision", "masks"]
    assert len(shown["data"]) == 3
    assert all(0 <= row[2] <= 100 for row in shown["data"])


def test_the_configuration_determines_the_run(run: tuple[OfflineRun, WandbRun]) -> None:
    config = run[0].config
    assert config["data"]["classes"] == ["boat", "train", "sheep", "car", "chair"]
    assert config["data_fit"]["images"] == 8
    assert len(config["data_fit"]["sha256"]["list"]) == 64
    assert config["data_predict"].keys() == config["data_validate"].keys() == config["data_fit"].keys()
    assert (config["trainer"]["max_steps"], config["seed"]) == (4, 0)
    assert config["versions"].keys() > {"torch", "wandb", "fbr_plugin"}
    assert config["command"] == shlex.join(sys.argv)
    assert config["gate"]["recluster_every"] == 1


def test_the_summary_has_the_best_scores(run: tuple[OfflineRun, WandbRun]) -> None:
    for name in ("miou_oracle", "miou_label_free"):
        assert run[0].summary[f"best/val/{name}"] == pytest.approx(max(run[0].history[f"val/{name}"]))


def test_checkpoint_and_masks_are_artifacts_and_all_is_counted(run: tuple[OfflineRun, WandbRun]) -> None:
    offline, speaker = run
    assert [Path(name).suffix for name in offline.artifacts["checkpoint"]] == [".ckpt"]
    assert [Path(name).suffix for name in offline.artifacts["predictions"]] == [".png"] * 8
    assert 0 < offline.uploads <= speaker.spent <= speaker.budget_mb * MB
    assert speaker.spent < 1.01 * offline.uploads  # of which the checkpoint is 8 MB


def test_the_budget_bounds_what_is_sent_and_keeps_a_tenth_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    monkeypatch.setattr(logger, "log_metrics", lambda values, step: sent.extend(values))
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    trainer: Any = SimpleNamespace(
        loggers=[logger], is_global_zero=True, state=state, estimated_stepping_batches=9
    )
    file = tmp_path / "figure.png"
    Image.fromarray(torch.randint(0, 256, (100, 100, 3), dtype=torch.uint8).numpy()).save(file)
    size, panels = file.stat().st_size, {f"figure {number}": Panel() for number in range(12)}
    speaker = WandbRun(10 * size / MB)
    with pytest.warns(UserWarning, match=r"are left out of Weights & Biases.*raise --wandb.budget_mb") as got:
        speaker.send(trainer, panels, dict.fromkeys(panels, file), 8)
    assert sent == [*panels][:9]
    assert len(got) == 1
    speaker.send(trainer, panels, dict.fromkeys(panels, file), 9)
    assert sent[9:] == [*panels][:1]
    assert speaker.spent == 10 * size


def test_a_checkpoint_beyond_the_budget_is_named(tmp_path: Path) -> None:
    savers = [ModelCheckpoint(tmp_path), ModelCheckpoint(tmp_path, monitor="val/miou")]
    for size, saver in enumerate(savers, start=1):  # the last checkpoint and, larger, the best one
        saver.best_model_path = str(tmp_path / f"{size}.ckpt")
        Path(saver.best_model_path).write_bytes(bytes(size * MB))
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    trainer: Any = SimpleNamespace(loggers=[logger], is_global_zero=True, checkpoint_callbacks=savers)
    with pytest.warns(UserWarning, match=r"the checkpoint of 2.0 MB is not uploaded.*wandb.budget_mb \(1\)"):
        WandbRun(1, artifacts=True).on_fit_end(trainer, None)


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget_mb=-1 must be at least 0"):
        WandbRun(-1)


# All that is called of Weights & Biases, apart from what it calls itself.
OWNERS = (Run, Config, SummaryDict, wandb.Artifact)
TYPES = (wandb.Image, wandb.Table, wandb.Histogram, wandb.Artifact)


def calls() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Every public method of a run and of its parts, and what makes them."""
    for owner in OWNERS:
        methods = ((name, each) for name, each in vars(owner).items() if isinstance(each, FunctionType))
        yield from ((owner, name, each) for name, each in methods if not name.startswith("_"))
    yield from ((kind, "__init__", vars(kind)["__init__"]) for kind in TYPES)
    yield wandb, "init", wandb.init


def weights(trainer: Trainer) -> list[torch.Tensor]:
    """All that was trained."""
    return [each.clone() for each in trainer.lightning_module.state_dict().values()]


@pytest.mark.slow
def test_no_failing_call_harms_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = weights(fit(tmp_path, 2, log=False))
    seen: dict[tuple[Any, str], Callable[..., Any]] = {}

    def noting(owner: Any, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen[owner, name] = original
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name, original in calls():
            patch.setattr(owner, name, noting(owner, name, original))
        fit(tmp_path / "noted", 2, WandbRun(artifacts=True))
    wandb.finish()
    found = {name for _, name in seen}
    assert {"init", "log", "log_artifact", "define_metric", "update", "add_file"} <= found
    assert {owner for owner, _ in seen} == {wandb, *OWNERS, *TYPES}

    for owner, name in seen:

        def fail(*args: Any, **kwargs: Any) -> None:
            raise ConnectionError("no route to host")

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            folder = tmp_path / f"{owner.__name__}_{name}"
            with pytest.warns(UserWarning, match="no route to host") as caught:
                trainer = fit(folder, 2, WandbRun(artifacts=True))
        wandb.finish()
        assert sum("no route" in str(each.message) for each in caught) == 1, name
        assert all(map(torch.equal, weights(trainer), expected)), name
