"""Every example runs: the settings through the command line, the scripts as they are."""

import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import wandb
import yaml
from helpers.tiny import (
    EXAMPLES,
    command,
    quick,
    write_coco,
    write_localization,
    write_msrc,
    write_photos,
    write_saliency,
    write_scene_labels,
)

from fbr_plugin.cli.sweep import read_training
from fbr_plugin.data.readers.instances import rasterise_instances

SCENES = ["--data.num_images", 8, "--data.size", 32, "--data.loading.batch_size", 4]
PHOTOS = [
    "--data.augmentation.crop_size",
    32,
    "--data.loading.batch_size",
    2,
    "--data.loading.num_workers",
    0,
]
NETWORK = ["--model.encoder", "resnet18", "--model.pretrained", "false", "--model.weights", "null"]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of the test's own, and end a run of W&B there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield
    wandb.finish()


def smaller(settings: dict, folder: Path) -> list[object]:
    """Words that let an example's settings run in a second, on data in a folder."""
    data, model = settings["data"], settings["model"]
    words: list[object] = [*quick(2)]
    if model["class_path"].endswith("MaskRCNN"):
        words += ["--data.instances", "all", "--data.val_images", 8]
    else:
        words += ["--model.scales", "[1.0]"]
    if data["class_path"].endswith("SyntheticDataModule"):
        words += [*SCENES, "--data.pseudo_label_dir", write_scene_labels(folder / "labels", 8, 32)]
    elif data["class_path"].endswith("WSOLDataModule"):
        photos = write_localization(folder / "photos")
        words += [
            *PHOTOS,
            *NETWORK,
            "--data.root",
            photos,
            "--data.augmentation.resize",
            36,
            "--data.eval_size",
            36 if "centre_crop" in data["init_args"] else 32,
        ]
        if "centre_crop" in data["init_args"]:
            words += [
                "--data.centre_crop",
                32,
                "--data.layout",
                "folder",
                "--data.loading.eval_batch_size",
                2,
            ]
            words += ["--model.num_classes", 2, "--model.top_n", 2]
    elif data["class_path"].endswith("COCODataModule"):
        photos = write_coco(folder / "photos")
        rasterise_instances(photos / "annotations" / "instances_train2014.json", photos / "labels")
        words += [*PHOTOS, *NETWORK, "--data.root", photos, "--data.pseudo_label_dir", photos / "labels"]
    else:
        num_classes = 20 if data["class_path"].endswith("VOCDataModule") else 2
        photos = write_photos(folder / "photos", num_classes)
        words += [*PHOTOS, *NETWORK, "--model.num_classes", num_classes, "--data.root", photos]
        words += ["--data.pseudo_label_dir", photos / "SegmentationClass"]
    if "saliency_dir" in data["init_args"]:
        words += ["--data.saliency_dir", write_saliency(photos)]
    if "long_side" in data["init_args"].get("augmentation", {}):
        words += ["--data.augmentation.long_side", "[32, 40]"]
    if "resize" in data["init_args"].get("augmentation", {}):
        words += ["--data.augmentation.resize", 36]
    if model["class_path"].endswith("FBR"):
        words += ["--figures.every_n_steps", 1]
    return words


PIPELINES = sorted(EXAMPLES.glob("*_pipeline.yaml"))
INSTANCES = sorted(EXAMPLES.glob("*_instances.yaml"))  # what differs from a pipeline
SEARCH = EXAMPLES / "wandb_sweep.yaml"
TRAININGS = sorted({*EXAMPLES.glob("*.yaml")} - {*PIPELINES, *INSTANCES, SEARCH})


@pytest.mark.slow
@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_settings_train(path: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    command("fit", "--config", path, *smaller(settings, tmp_path))
    model = settings["model"]["class_path"].rpartition(".")[-1]
    (run,) = (tmp_path / "runs" / model).iterdir()
    (checkpoint,) = run.rglob("epoch*.ckpt")
    assert torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"] == 2
    assert (run / "config.yaml").is_file()
    assert bool(list(run.glob("figures/step_000002_pseudo_labels.png"))) == model.endswith("FBR")


def test_every_choice_of_the_search_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    search = yaml.safe_load(SEARCH.read_text())
    program, subcommand, *words = search["command"]
    assert (program, subcommand, words.pop()) == ("fbr-plugin", "fit", "${args}")
    ranges = search["parameters"].items()
    chosen = {name: each["values"][-1] if "values" in each else each["max"] for name, each in ranges}
    training = read_training([*words, *(f"--{name}={value}" for name, value in chosen.items())])
    assert training["trainer"]["logger"]["init_args"]["offline"] is False
    for name, value in chosen.items():
        *groups, field = name.removeprefix("model.").split(".")
        found = training["model"]["init_args"] if name.startswith("model.") else training
        for group in groups:
            found = found[group]
        assert found[field] == value
    assert search["metric"] == {"name": "val/miou_label_free", "goal": "maximize"}


@pytest.mark.slow
@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_pipelines_are_planned(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words: list[object] = []
    if path.stem != "scenes_pipeline":
        words = ["--data.root", write_photos(tmp_path / "photos")]
    command("pipeline", "--config", path, "--dry-run", *words)
    planned = capsys.readouterr().out.splitlines()
    names = ["classifier", "labels", "baseline", "affinity", "irn", "masks", "segmentation", "predictions"]
    assert [line.split()[0] for line in planned] == names


@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.stem)
def test_pipelines_of_instances_are_planned(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("scene_000000\nscene_000001")
    words: list[object] = ["--config", path.with_name(path.name.replace("_instances", "_pipeline"))]
    words += ["--config", path, "--calibrate", few, "--dry-run"]
    if path.stem != "scenes_instances":
        few.write_text("2007_000000\n2007_000001")
        photos = write_photos(tmp_path / "photos")
        shutil.copytree(photos / "SegmentationClass", photos / "SegmentationObject")  # one object each
        words += ["--data.root", photos]
    command("pipeline", *words)
    planned = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    names = ["classifier", "labels", "baseline", "affinity", "irn", "calibration", "instances"]
    assert planned == [*names, "masks", "instance_network", "instance_predictions"]


SCRIPTS: dict[str, tuple[list[str], str, list[str]]] = {
    "msrc_to_folder": (["msrc", "folder"], "2 images with objects in folder", ["folder", "msrc"]),
    "own_baseline": ([], "bank", []),
    "plain_pytorch": ([], "bank", []),
    "bas_activation_vs_entropy": (
        ["--images", "48", "--epochs", "2", "--size", "32"],
        "cross-entropy saturates at",
        ["bas_activation_vs_entropy.png"],
    ),
}
"""Words that keep a script short, what it prints, and the files that it leaves."""


@pytest.mark.slow
def test_activation_against_entropy_on_photos_with_a_trained_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos")
    words: list[object] = ["--config", EXAMPLES / "folder_cam.yaml", *PHOTOS, "--data.root", photos]
    words += ["--model.encoder", "small", "--model.num_classes", 2, "--model.scales", "[1.0]", *quick(30)]
    command("fit", *words, "--data.augmentation.long_side", "[32, 40]", "--model.optimizer.name", "AdamW")
    (checkpoint,) = (tmp_path / "runs").rglob("epoch*.ckpt")
    script = EXAMPLES / "bas_activation_vs_entropy.py"
    given = ["--data", str(photos), "--ckpt", str(checkpoint), "--size", "32"]
    monkeypatch.setattr(sys, "argv", [str(script), *given])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert "images of one class, rightly classified" in printed
    assert "cross-entropy saturates at" in printed
    (photos / "classes.txt").write_text("a\nb\nc")
    with pytest.raises(SystemExit, match="is no checkpoint of a CAM of 3 classes"):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_scripts_run(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, printed, files = SCRIPTS[path.stem]
    if path.stem == "msrc_to_folder":
        write_msrc(tmp_path / "msrc")
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    runpy.run_path(str(path), run_name="__main__")
    assert printed in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == files
