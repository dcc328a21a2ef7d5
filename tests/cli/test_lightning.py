"""The console script, from settings to scores, and what it says of a user's mistakes."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
import yaml
from helpers.tiny import EXAMPLES, command, quick, write_photos
from helpers.wandb_records import OfflineRun
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import WandbLogger

from fbr_plugin import FBRConfig, GateConfig
from fbr_plugin.baselines import AMNFBR, CAM, PPC, SeedTask
from fbr_plugin.cli import demo
from fbr_plugin.cli.main import main
from fbr_plugin.cli.sweep import read_training
from fbr_plugin.config import preset
from fbr_plugin.data import Augmentation, FolderDataModule, Loading, read_mask, write_mask
from fbr_plugin.data.readers.images import read_image
from fbr_plugin.errors import InputError
from fbr_plugin.pipeline.settings import with_save_dir
from fbr_plugin.postprocess.affinity_labels import affinity_labels
from fbr_plugin.postprocess.seed_files import read_seed
from fbr_plugin.postprocess.seeds import threshold_labels

CONFIG = EXAMPLES / "folder_amn_fbr.yaml"
FIELDS = ["--model.fbr.preset", "ppc", "--model.fbr.dim", 64]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of the test's own, and end a run of W&B there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield
    wandb.finish()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos with masks and labels."""
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def words(photos: Path) -> list[object]:
    """AMN with FBR on the photos: 3 steps an epoch, in a moment."""
    return [
        *("--config", CONFIG, "--model.encoder", "small"),
        *("--model.optimizer.poly_power", 0, "--model.scales", "[1.0]"),
        *("--model.rates", "[1, 2]", "--model.fbr.bank_size", 400),
        *("--model.fbr.enabled", "true", "--model.gate.enabled", "true"),  # the losses beside the gate
        *("--data.root", photos, "--data.pseudo_label_dir", photos / "SegmentationClass"),
        *("--data.augmentation.crop_size", 32, "--data.loading.batch_size", 2),
    ]


@pytest.fixture(scope="module")
def trained(words: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of 3 steps."""
    folder = tmp_path_factory.mktemp("run")
    command("fit", *words, *quick(3), "--trainer.default_root_dir", folder)
    return only(folder.rglob("epoch*.ckpt"))


def only(found: Iterator[Path]) -> Path:
    """The one path that was found."""
    (path,) = found
    return path


def state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers in a checkpoint."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]


def assert_equal_states(first: Path, second: Path) -> None:
    """Compare two checkpoints bit for bit."""
    states = state(first), state(second)
    assert states[0].keys() == states[1].keys()
    assert [name for name in states[0] if not torch.equal(states[0][name], states[1][name])] == []


def saved_settings(run: Path) -> dict:
    """The settings of the model in a run's folder."""
    return yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]


def figures(run: Path) -> dict[str, float]:
    """The last value of every figure in a run's metrics.csv."""
    rows = csv.DictReader((run / "metrics.csv").open())
    return {name: float(value) for row in rows for name, value in row.items() if value}


def test_the_shell_sees_no_warning_of_how_lightning_is_called(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", "fit", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert not [str(each.message) for each in recwarn if "args parameter" in str(each.message)]


def test_printed_settings_are_complete_and_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command("fit", "--config", EXAMPLES / "scenes_amn_fbr.yaml", *FIELDS, "--print_config")
    printed = capsys.readouterr().out
    settings = yaml.safe_load(printed)["model"]["init_args"]
    assert (settings["fbr"], settings["gate"]) == ({"preset": "ppc", "dim": 64}, None)
    Path("settings.yaml").write_text(printed)
    with pytest.raises(SystemExit, match="0"):
        command("fit", "--config", "settings.yaml", "--print_config")
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("way", ["word", "file"])
def test_a_run_s_settings_have_all_fields_of_the_preset(way: str) -> None:
    Path("settings.yaml").write_text("model: {init_args: {fbr: {preset: ppc, dim: 64}}}")
    given = FIELDS if way == "word" else ["--config", "settings.yaml"]
    settings = read_training(["--config", str(EXAMPLES / "scenes_amn_fbr.yaml"), *map(str, given)])["model"]
    losses, gate = replace(FBRConfig.ppc(), dim=64), GateConfig(enabled=False)
    assert (settings["init_args"]["fbr"], settings["init_args"]["gate"]) == (asdict(losses), asdict(gate))
    with pytest.raises(InputError, match=r"dim needs the losses, .* fbr.preset amn or ppc"):
        read_training(["--config", str(EXAMPLES / "scenes_amn_fbr.yaml"), "--model.fbr.dim", "64"])


@pytest.mark.parametrize("way", ["word", "file"])
@pytest.mark.parametrize("kind", [CAM, PPC])
def test_a_field_of_the_optimizer_leaves_the_others_of_the_class(
    kind: type[SeedTask], way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"class_path": kind.__name__, "init_args": {"optimizer": {"lr": 0.02}}}
    Path("settings.yaml").write_text(yaml.safe_dump({"model": model}))
    words = ["--model", kind.__name__, "--model.optimizer.lr", 0.02]
    given = ["--config", "settings.yaml"] if way == "file" else words
    with pytest.raises(SystemExit, match="0"):
        command("fit", *given, "--data", "SyntheticDataModule", "--model.num_classes", 5, "--print_config")
    found = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["optimizer"]
    assert found == asdict(replace(preset(kind, "optimizer"), lr=0.02))


@pytest.mark.slow
def test_the_same_command_twice_gives_two_equal_runs(words: list[object]) -> None:
    for _ in range(2):
        command("fit", *words, *quick(3), "--trainer.log_every_n_steps", 1, "--figures.every_n_steps", 3)
    first, second = sorted(Path("runs/AMNFBR").iterdir())
    for run in (first, second):
        names = {path.name for path in run.iterdir()}
        assert names == {"checkpoints", "config.yaml", "figures", "hparams.yaml", "metrics.csv"}
        kinds = ["confusion_matrix", "histograms", "nroi", "predictions", "pseudo_labels"]
        kinds += ["semantic_graph", "threshold_sweep"]
        assert sorted(path.name for path in (run / "figures").iterdir()) == [
            f"step_000003_{kind}.png" for kind in kinds
        ]
    assert_equal_states(only(first.rglob("epoch*.ckpt")), only(second.rglob("epoch*.ckpt")))
    logged = figures(first)
    expected = {"train/loss", "fbr/bg", "fbr/bank_fill", "gate/mean_gate", "val/miou_oracle"}
    assert {*expected, "val/miou_label_free"} <= logged.keys()
    assert logged == figures(second)


@pytest.mark.slow
def test_a_resumed_run_ends_as_the_uninterrupted_one(words: list[object], trained: Path) -> None:
    command("fit", *words, *quick(5), "--ckpt_path", trained, "--trainer.default_root_dir", "resumed")
    command("fit", *words, *quick(5), "--trainer.default_root_dir", "whole")
    assert_equal_states(only(Path("resumed").rglob("epoch*.ckpt")), only(Path("whole").rglob("epoch*.ckpt")))


@pytest.mark.slow
def test_evaluate_scores_written_seeds_as_test_does(
    words: list[object], photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert only(trained.parent.glob("best*"))
    common = [*words, *quick(3), "--ckpt_path", trained]
    command("test", *common, "--trainer.default_root_dir", "test")
    command("validate", *common, "--trainer.default_root_dir", "validate")
    command("predict", *common, "--data.lists.predict", "val", "--output_dir", "seeds")
    assert "seeds: 6 files in seeds" in capsys.readouterr().out
    command("predict", *common, "--output_dir", "labels", "--thresholds", ".35", ".10")
    capsys.readouterr()
    lists = photos / "ImageSets" / "Segmentation"
    masks = ["--masks", photos / "SegmentationClass", "--list", lists / "val.txt"]
    command("evaluate", "--predictions", "seeds", *masks, "--output", "scores.json")
    printed, scores = capsys.readouterr().out, json.loads(Path("scores.json").read_text())
    tested = figures(Path("test"))
    assert scores["result"]["miou"] == pytest.approx(tested["test/miou_oracle"], abs=1e-6)
    assert scores["sweep"]["oracle_threshold"] == pytest.approx(tested["test/threshold_oracle"])
    assert f"mIoU        {tested['test/miou_oracle']:6.2f}" in printed
    assert "class_1" in printed
    validated = figures(Path("validate"))
    assert {name.replace("val/", "test/"): value for name, value in validated.items()} == tested
    assert len(list(Path("labels").glob("*.png"))) == 6
    for path in sorted(Path("labels").glob("*.png")):
        labels = threshold_labels(read_seed(Path("seeds") / f"{path.stem}.npy"), 0.35, 0.10)
        assert np.array_equal(read_mask(path, 2), labels)


@pytest.mark.slow
def test_predicted_labels_are_refined_as_in_the_pipeline(
    words: list[object], photos: Path, trained: Path
) -> None:
    common = [*words, *quick(3), "--ckpt_path", trained]
    command("predict", *common, "--output_dir", "seeds")
    thresholds = ["--thresholds", ".35", ".10"]
    command("predict", *common, "--output_dir", "labels", *thresholds, "--refine", "pamr")
    files = sorted(Path("labels").glob("*.png"))
    assert [file.stem for file in files] == sorted(file.stem for file in Path("seeds").glob("*.npy"))
    plain = []
    for file in files:
        seed = read_seed(Path("seeds") / f"{file.stem}.npy")
        image = read_image(photos / "JPEGImages" / f"{file.stem}.jpg")
        assert np.array_equal(read_mask(file, 2), affinity_labels(image, seed, 0.35, 0.10, "pamr"))
        plain.append(np.array_equal(read_mask(file, 2), threshold_labels(seed, 0.35, 0.10)))
    assert not all(plain)


@pytest.mark.slow
def test_refining_without_thresholds(words: list[object], trained: Path) -> None:
    common = [*words, *quick(3), "--ckpt_path", trained, "--output_dir", "seeds"]
    with pytest.raises(
        InputError, match="--refine pamr refines labels: give their --thresholds FG BG as well"
    ):
        command("predict", *common, "--refine", "pamr")


@pytest.mark.slow
def test_a_few_masks_choose_a_threshold_in_test_and_in_evaluate(
    words: list[object], photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = photos / "ImageSets" / "Segmentation"
    Path("few.txt").write_text("\n".join((lists / "val.txt").read_text().split()[:3]))
    common = [*words, *quick(3), "--ckpt_path", trained]
    command("test", *common, "--calibrate", "few.txt", "--trainer.default_root_dir", "few")
    command("predict", *common, "--data.lists.predict", "val", "--output_dir", "seeds")
    masks = ["--masks", photos / "SegmentationClass", "--list", lists / "val.txt"]
    capsys.readouterr()
    scores = ["--predictions", "seeds", *masks, "--output", "scores.json"]
    command("evaluate", *scores, "--calibrate", "few.txt")
    printed, found = capsys.readouterr().out, json.loads(Path("scores.json").read_text())["calibration"]
    tested = figures(Path("few"))
    assert found.pop("num_images") == 3
    for name, value in found.items():
        assert value == pytest.approx(tested[f"test/{name}"], abs=1e-6)
    assert tested["test/miou_calibrated"] <= tested["test/miou_oracle"]
    assert f"calibrated on 3 images: threshold {found['threshold_calibrated']:.3f}, mIoU" in printed
    command("evaluate", *scores, "--calibrate", "train")  # a list beside the other, of all images
    content = json.loads(Path("scores.json").read_text())
    assert content["calibration"]["miou_calibrated"] == content["result"]["miou"]


def test_calibration_needs_seeds() -> None:
    scenes = ["--data", "SyntheticDataModule", "--data.num_images", 4, "--data.size", 32]
    network = ["--model", "DeepLabV2", "--model.num_classes", 5, "--model.encoder", "small"]
    given = [*network, *scenes, *quick(1), "--calibrate", "few.txt", "--ckpt_path", "last"]
    with pytest.raises(
        ValueError, match=r"--calibrate few\.txt chooses a threshold of seeds: .* not DeepLabV2"
    ):
        command("test", *given)


@pytest.mark.slow
def test_a_checkpoint_brings_its_settings_and_the_command_line_goes_before(
    words: list[object], trained: Path
) -> None:
    forgetful = [word for word in words if word not in ("--model.rates", "[1, 2]")]
    again = [*forgetful, *quick(3), "--ckpt_path", trained]
    command("test", *again, "--trainer.default_root_dir", "as_trained")
    command("test", *again, "--trainer.default_root_dir", "scales", "--model.scales=[1.0, 0.5]")
    trained_with, scales = saved_settings(Path("as_trained")), saved_settings(Path("scales"))
    assert trained_with["rates"] == scales["rates"] == [1, 2]
    assert trained_with["fbr"]["bank_size"] == 400
    assert (trained_with["scales"], scales["scales"]) == ([1.0], [1.0, 0.5])
    assert figures(Path("as_trained")) != figures(Path("scales"))


@pytest.mark.slow
def test_a_word_for_one_field_leaves_the_others_of_the_checkpoint(words: list[object]) -> None:
    """Here with settings that `words` and the YAML do not have."""
    more = ["--model.gate.num_clusters", 32, "--model.fbr.weight_fg", 0.2]
    more += ["--model.optimizer.weight_decay", 0.3]
    command("fit", *words, *quick(3), *more, "--trainer.default_root_dir", "run")
    again = ["--ckpt_path", only(Path("run").rglob("epoch*.ckpt")), "--model.gate.temperature", 0.05]
    again += ["--model.optimizer.head_lr", 0.5]
    command("test", *words, *quick(3), *again, "--trainer.default_root_dir", "again")
    settings = saved_settings(Path("again"))
    fbr, gate, optimizer = settings["fbr"], settings["gate"], settings["optimizer"]
    assert (gate["num_clusters"], fbr["weight_fg"], gate["temperature"]) == (32, 0.2, 0.05)
    assert (optimizer["weight_decay"], optimizer["head_lr"], optimizer["poly_power"]) == (0.3, 0.5, 0)


@pytest.mark.slow
def test_weights_of_a_checkpoint_need_no_other_file(words: list[object], trained: Path) -> None:
    Path("settings.yaml").write_text("model: {init_args: {weights: gone.ckpt, pretrained: true}}")
    given = [*words, "--config", "settings.yaml", *quick(3), "--ckpt_path", trained]
    command("test", *given, "--trainer.default_root_dir", "test")
    assert saved_settings(Path("test"))["weights"] is None


@pytest.mark.slow
def test_false_positives_are_printed_by_the_names_of_the_stuff(
    words: list[object], photos: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(photos, "photos"))
    (root / "stuff.txt").write_text("grass\nsky\n")
    for path in sorted((root / "SegmentationClass").iterdir()):
        mask = read_mask(path, 2)
        write_mask(root / "StuffClass" / path.name, np.where(mask == 0, 1, 0))
    common = [*words, *quick(3), "--ckpt_path", trained, "--data.root", root]
    common += ["--data.stuff_dir", "StuffClass"]
    command("test", *common, "--trainer.default_root_dir", "test")
    printed, tested = capsys.readouterr().out, figures(Path("test"))
    (title,) = re.findall(r"False positives in percent, threshold (.*)", printed)
    assert float(title) == pytest.approx(tested["test/threshold_oracle"])
    rows = re.findall(r"class_(\d)  grass ([\d.]+), elsewhere nan", printed)
    assert [number for number, _ in rows] == ["1", "2"]
    shares = [float(share) for _, share in rows]
    assert min(shares) - 0.05 <= tested["test/fp_cooccurring"] <= max(shares) + 0.05
    command("validate", *common, "--trainer.default_root_dir", "validate")
    assert figures(Path("validate"))["val/fp_cooccurring"] == tested["test/fp_cooccurring"]
    shutil.rmtree(root / "StuffClass")
    command("predict", *common, "--output_dir", "seeds")  # which needs none
    with pytest.raises(FileNotFoundError, match=r"stuff_dir=photos/StuffClass does not exist"):
        command("test", *common)


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_an_untrained_network_is_not_used(subcommand: str, words: list[object]) -> None:
    more = ["--output_dir", "seeds"] if subcommand == "predict" else []
    with pytest.raises(ValueError, match=f"{subcommand} needs a trained network: give its checkpoint"):
        command(subcommand, *words, *more)
    assert not Path("seeds").exists()


@pytest.mark.slow
def test_a_run_in_a_folder_that_holds_one_takes_another(
    words: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    named = [*words, *quick(3), "--trainer.default_root_dir", "named"]
    command("fit", *named)
    before = (Path("named") / "metrics.csv").read_text()
    command("test", *named, "--ckpt_path", only(Path("named").rglob("epoch*.ckpt")))
    assert "named already holds a run: this one is in named_2" in capsys.readouterr().out
    assert (Path("named") / "metrics.csv").read_text() == before
    assert "test/miou_oracle" in figures(Path("named_2"))


@pytest.mark.slow
def test_checkpoints_go_from_the_command_line_to_python_and_back(
    words: list[object], photos: Path, trained: Path
) -> None:
    model = AMNFBR.load_from_checkpoint(trained)
    assert (model.hparams["rates"], model.fbr.config.bank_size) == ((1, 2), 400)
    assert model.fbr.banks[0].fill > 0
    seed_everything(0)
    settings = {"augmentation": Augmentation(32), "loading": Loading(2)}
    module = FolderDataModule(photos, pseudo_label_dir=photos / "SegmentationClass", **settings)
    trainer = Trainer(accelerator="cpu", max_steps=1, limit_val_batches=0, logger=False)
    options = {"fbr": {"preset": "amn", "bank_size": 300}, "gate": {"enabled": True}}
    trainer.fit(AMNFBR(2, rates=(1, 2), encoder="small", scales=(1.0,), **options), module)
    trainer.save_checkpoint("python.ckpt")
    command("test", *words, "--model.fbr.bank_size", 300, *quick(1), "--ckpt_path", "python.ckpt")
    assert "test/miou_oracle" in figures(only(Path("runs/AMNFBR").iterdir()))


@pytest.mark.slow
def test_wandb_gets_figures_and_settings_from_the_run_folder(words: list[object]) -> None:
    logger = ["--trainer.logger", "WandbLogger", "--trainer.logger.offline", "true"]
    command("fit", *words, *quick(3), *logger, "--figures.every_n_steps", 3)
    wandb.finish()
    wandb.teardown()  # waits until the file is complete
    run = only(Path("runs/AMNFBR").iterdir())
    offline = OfflineRun(only(run.glob("wandb/offline-run-*")))
    expected = {"fbr/pseudo_labels", "fbr/nroi", "val/confusion_matrix", "val/predictions"}
    assert expected <= offline.history.keys()
    assert offline.config["figures"] == {"every_n_steps": 3, "num_images": 4}
    assert offline.config["data"]["classes"] == ["class_1", "class_2"]
    assert offline.config["data_fit"]["sha256"].keys() == {"images", "labels", "list"}
    assert "masks" in offline.config["data_validate"]["sha256"]
    assert (run / "figures" / "step_000003_nroi.png").is_file()
    assert (run / "figures" / "step_000003_predictions.png").is_file()
    assert not Path("wandb").exists()


@pytest.mark.slow
def test_tensorboard_needs_no_folder_and_gets_the_same_figures(words: list[object]) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = ["--trainer.logger", "TensorBoardLogger", "--figures.every_n_steps", 3]
    command("fit", *words, *quick(3), *shown)
    run = only(Path("runs/AMNFBR").iterdir())
    events = event_accumulator.EventAccumulator(str(only(run.glob("lightning_logs/version_0"))))
    events.Reload()
    files = {path.stem.removeprefix("step_000003_") for path in run.rglob("figures/step_000003_*.png")}
    assert {name.rpartition("/")[2] for name in events.Tags()["images"]} == files
    assert {"pseudo_labels", "confusion_matrix"} <= files
    assert only(run.rglob("epoch*.ckpt"))


LONG = "pytorch_lightning.loggers.CSVLogger"


@pytest.mark.parametrize("named", [["--trainer.logger", "TensorBoardLogger"], [f"--trainer.logger={LONG}"]])
def test_a_logger_is_given_a_folder_after_its_name(named: list[str]) -> None:
    given = ["--trainer.logger.save_dir", "."]
    assert with_save_dir(["fit", *named, "--seed"]) == ["fit", *named, *given, "--seed"]


@pytest.mark.parametrize("logger", [["--trainer.logger", "WandbLogger"], ["--trainer.logger"], ["CSVLogger"]])
def test_other_words_stay(logger: list[str]) -> None:
    assert with_save_dir(["fit", *logger]) == ["fit", *logger]


def test_a_logger_that_cannot_start_is_left_out(words: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: WandbLogger) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(WandbLogger, "experiment", property(fail))
    with pytest.warns(UserWarning, match="WandbLogger could not start and is left out: no route to host"):
        command("fit", *words, *quick(1), "--trainer.logger", "WandbLogger")
    run = only(Path("runs/AMNFBR").iterdir())
    assert only(run.glob("checkpoints/epoch*.ckpt"))
    assert (run / "config.yaml").is_file()


def test_classes_in_the_working_folder_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(EXAMPLES / "own_baseline.py", "mine.py")
    scenes = [
        "--data",
        "SyntheticDataModule",
        "--data.num_images",
        8,
        "--data.size",
        32,
        "--data.loading.batch_size",
        4,
    ]
    drawn = ["--figures.every_n_steps", 500]  # the last step is drawn as well
    command("fit", "--model", "mine.TheirsFBR", *scenes, *quick(2), *drawn, *FIELDS)
    checkpoint = only(Path("runs/TheirsFBR").rglob("epoch*.ckpt"))
    assert state(checkpoint)["fbr.heads.foreground"].shape[0] == 64
    report = capsys.readouterr().out
    assert re.search(
        rf"run +runs/TheirsFBR/.*\nlast checkpoint +{checkpoint}\nfigures .* \(4 files\)", report
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--model.encoder", "resnet181"], r"unknown encoder 'resnet181'; did you mean resnet18"),
        (["--model.num_classes", 7], r"num_classes=7, the data has 2 foreground classes; build the model"),
        (["--data.root", "nowhere"], r"the folder nowhere does not exist"),
        (["--data.pseudo_label_dir", "nowhere"], r"nowhere/2007_\d+.png does not exist: check the folder"),
        (["--data.pseudo_label_dir", "null"], r"AMN trains on pseudo labels, .*: make them with"),
        (["--ckpt_path", "nowhere.ckpt"], r"Checkpoint file not found: .*nowhere.ckpt"),
        (["--model.weights", "nowhere.ckpt"], r"weights=nowhere.ckpt does not exist; check the path"),
        (["--data.label_source", "none"], r"AMNFBR needs image labels, but .* label_source is none"),
        (
            ["--data.loading.batch_size", 7],
            r"6 training images do not fill a batch of 7 .*: lower batch_size",
        ),
        (["--data.loading.batch_size", 0], r"batch_size must be at least 1, got 0"),
        (["--model.fbr.dim", 0], r"dim must be at least 1, got 0"),
        (["--model.fbr", "anm"], r"preset fbr must be one of 'recommended', 'amn', 'ppc', got 'anm'"),
        (["--model.optimizer.name", "Adamm"], r"no optimizer 'Adamm'; did you mean .*Adam"),
        (["--model.optimizer.lr", -1], r"lr must be a finite number of at least 0, got -1"),
        (["--figures.num_images", 0], r"num_images=0 must be at least 1"),
    ],
)
def test_mistakes_are_named(wrong: list[object], message: str, words: list[object]) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        command("fit", *words, *quick(1), *wrong)


def test_a_checkpoint_of_another_model_is_named(words: list[object], trained: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"was saved by fbr_plugin.baselines.AMNFBR, but the model is fbr_plugin.baselines.CAM",
    ):
        command("test", *words, "--model", "fbr_plugin.baselines.CAM", "--ckpt_path", trained)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["truncated", "empty", "random", "text"])
def test_in_a_shell_a_damaged_checkpoint_is_one_line(
    kind: str, words: list[object], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = trained.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "random": np.random.default_rng(0).bytes(5000),
        "text": b"classes of the data",
    }
    Path("damaged.ckpt").write_bytes(damaged[kind])
    for subcommand in ("fit", "test", "predict"):
        more = ["--output_dir", "seeds"] if subcommand == "predict" else []
        line = [subcommand, *words, *quick(3), *more, "--ckpt_path", "damaged.ckpt"]
        monkeypatch.setattr(sys, "argv", ["fbr-plugin", *map(str, line)])
        with pytest.raises(
            SystemExit, match=r"^error: damaged.ckpt is damaged or not a checkpoint: give .*$"
        ):
            main()
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("plugins", [[], ["--trainer.plugins", "DoublePrecision"]])
def test_fit_writes_its_checkpoints_whole(
    plugins: list[object], words: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[str] = []

    def note(model: AMNFBR) -> None:
        writers.append(type(model.trainer.strategy.checkpoint_io).__name__)

    monkeypatch.setattr(AMNFBR, "on_train_end", note)
    command("fit", *words, *quick(1), *plugins)
    assert writers == ["WholeCheckpoints"]


KILLED = """
import errno, os, shutil, signal, sys

import torch

from fbr_plugin.cli.main import main


def write_half(path):
    '''Die in the middle of a file.'''
    with open(path, "wb") as file:
        file.write(b"half a checkpoint")
    os.kill(os.getpid(), signal.SIGKILL)


def rename(*_):
    '''As where the folder of temporary files is on another file system.'''
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def save(content, file, real=torch.save):
    '''Save the first step; at the next, die in the middle of the file that is written or copied.'''
    if content["global_step"] > 1:
        os.rename, shutil.copyfile = rename, lambda source, target, **_: write_half(target)
        if hasattr(file, "name"):
            write_half(file.name)
    real(content, file)


torch.save = save
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_checkpoint_leaves_the_one_before(words: list[object]) -> None:
    last = ["dirpath=saved", "filename=last", "every_n_train_steps=1", "enable_version_counter=false"]
    saver = ["--trainer.callbacks=ModelCheckpoint", *(f"--trainer.callbacks.{option}" for option in last)]
    line = [sys.executable, "-c", KILLED, "fit", *words, *quick(3), *saver]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([*map(str, line)], env=environment, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load("saved/last.ckpt", weights_only=True)["global_step"] == 1
    command("fit", *words, *quick(2), "--ckpt_path", "saved/last.ckpt")


def test_in_a_shell_a_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["fit", "--config", str(CONFIG), "--data.root", "nowhere"]
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", *words])
    with pytest.raises(
        SystemExit, match=r"^error: the folder nowhere does not exist: it should hold classes.txt$"
    ):
        main()


@pytest.mark.parametrize(
    "message",
    ["the fault", "Caught InputError in worker 0.\nTraceback:\nfbr_plugin.errors.InputError: the fault\n"],
)
def test_in_a_shell_a_mistake_below_another_error_is_one_line(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the stage failed") from InputError(message)

    monkeypatch.setattr(demo, "run", broken)
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", "demo"])
    with pytest.raises(SystemExit, match=r"^error: the fault$"):
        main()


def test_in_a_shell_any_other_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a fault, not a mistake") from KeyError("that was never raised")

    monkeypatch.setattr(demo, "run", broken)
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", "demo"])
    with pytest.raises(ValueError, match="a fault, not a mistake"):
        main()


RANKS = """
import torch
from pytorch_lightning import Callback


class Ranks(Callback):
    '''Saves what each process holds at the end, and what DDP broadcasts at every step.'''

    def on_train_end(self, trainer, module):
        broadcast = [tuple(buffer.shape) for buffer in trainer.strategy.model.modules_buffers]
        writer = type(trainer.strategy.checkpoint_io).__name__
        content = {"state": module.state_dict(), "broadcast": broadcast, "writer": writer}
        torch.save(content, f"rank_{trainer.global_rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_train_one_run(words: list[object]) -> None:
    Path("ranks.py").write_text(RANKS)
    parallel = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.callbacks", "ranks.Ranks"]
    line = [sys.executable, "-m", "fbr_plugin", "fit", *words, *quick(2), *parallel]
    line += ["--data.loading.batch_size", 1]
    local = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    options = {"env": {**os.environ, **local}, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([*map(str, line)], **options)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(f"rank_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["writer"] == second["writer"] == "WholeCheckpoints"
    assert first["broadcast"]
    assert (400, 128) not in first["broadcast"]  # the bank, which both fill with the same rows
    for kept in (first["state"], second["state"]):  # without the rows that take what is masked out
        kept["gate.pixels.rows"] = kept["gate.pixels.rows"][:, :-1]
        kept["gate.background.nrois"] = kept["gate.background.nrois"][:-1]
        kept["gate.background.labels"] = kept["gate.background.labels"][:-1]
    own = {name for name, value in first["state"].items() if not torch.equal(value, second["state"][name])}
    assert own
    assert all("running_" in name for name in own)  # of BatchNorm, which DDP equalises before the next step
    assert first["state"]["fbr.banks.0.fill"] == 2 * 2 * 8  # steps x processes x NROIs of an image
    run = only(Path("runs/AMNFBR").iterdir())
    loaded = AMNFBR.load_from_checkpoint(only(run.rglob("epoch*.ckpt")))
    assert torch.equal(loaded.fbr.banks[0].nrois, first["state"]["fbr.banks.0.nrois"])
    assert (run / "config.yaml").is_file()
