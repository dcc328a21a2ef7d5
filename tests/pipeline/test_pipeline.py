"""The whole pipeline on tiny data: what it writes, keeps, resumes and says."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.tiny import command, write_photos
from jsonargparse import ArgumentError
from PIL import Image

from fbr_plugin.baselines import CAM
from fbr_plugin.baselines.bas.trained_cam import TrainedCAM
from fbr_plugin.cli.main import main
from fbr_plugin.data.readers.images import read_mask
from fbr_plugin.data.readers.labels import read_ids
from fbr_plugin.pipeline import stages

SMALL: dict[str, Any] = {"encoder": "small", "optimizer": {"name": "AdamW"}, "scales": [1.0]}
ADAMW = {"name": "AdamW", "lr": 3e-3}
RECOMMENDED = {"fbr": {"enabled": False}, "gate": {"enabled": True}}
SMALL_PHOTOS = {
    "lists": {"val": "train"},
    "augmentation": {"crop_size": 32},
    "loading": {"batch_size": 4},
}
QUIET = {"accelerator": "cpu", "devices": 1, "limit_val_batches": 0, "enable_progress_bar": False}


def settings(output: Path, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Every stage, in a few steps."""

    def network(name: str, **options: Any) -> dict[str, Any]:
        return {
            "model": {"class_path": f"fbr_plugin.baselines.{name}", "init_args": options},
            "trainer": {"max_steps": 3},
        }

    return {
        "output": str(output),
        "data": data,
        "trainer": {**QUIET, "log_every_n_steps": 1},
        "classifier": network("CAMFBR", **{**SMALL, "optimizer": ADAMW}, **RECOMMENDED),
        "labels": {"fg": 0.35, "bg": 0.1},
        "baseline": network("AMN", rates=[1, 2], **SMALL),
        "irn": network("IRN", encoder="small"),
        "masks": {"refine": "pamr"},
        "segmentation": network("DeepLabV2", encoder="small", rates=[1, 2], scales=[1.0]),
        **changes,
    }


def scenes() -> dict[str, Any]:
    return {
        "class_path": "fbr_plugin.data.SyntheticDataModule",
        "init_args": {"num_images": 16, "size": 32, "loading": {"batch_size": 8}},
    }


def photos(root: Path) -> dict[str, Any]:
    return {
        "class_path": "fbr_plugin.data.FolderDataModule",
        "init_args": {"root": str(root), **SMALL_PHOTOS},
    }


def run(settings: dict[str, Any], *words: object) -> dict[str, Any]:
    """Run the pipeline; its report."""
    output = Path(settings["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    config = output.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings))
    command("pipeline", "--config", config, *words)
    report = output / "report.json"
    return json.loads(report.read_text()) if report.exists() else {}


def launch(settings: dict[str, Any], *words: object) -> subprocess.Popen:
    """Start the pipeline in a process of its own."""
    config = Path(settings["output"]).with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "fbr_plugin", "pipeline", "--config", config, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(word) for word in command], env=environment, cwd=config.parent)


def scores(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: record["scores"] for name, record in report["stages"].items()}


@pytest.mark.slow
def test_every_stage_is_made_scored_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    report = run(settings(output, scenes()))
    names = ["classifier", "labels", "baseline", "affinity", "irn", "masks", "segmentation", "predictions"]
    assert list(report["stages"]) == names
    known = scores(report)
    assert {"miou_oracle", "miou_label_free"} <= known["classifier"].keys()
    assert {"miou_oracle", "miou_label_free"} <= known["baseline"].keys()
    assert known["masks"].keys() == {"miou_unrefined", "miou_masks"}
    assert known["predictions"].keys() == {"miou_predictions"}
    assert report["oracle"] == ["miou_oracle"]
    assert report["stages"]["masks"]["made_of"]["settings"]["masks"]["refine"] == "pamr"
    assert {"python", "torch", "fbr_plugin"} <= report["versions"].keys()
    for folder in (
        "labels/labels",
        "labels/gate",
        "affinity/affinity",
        "masks/unrefined",
        "masks/masks",
        "predictions/masks",
    ):
        assert len(list((output / folder).glob("*.png"))) == 16, folder
    for file in ("masks/examples.png", "predictions/examples.png"):
        assert (output / file).is_file()
    assert not (output / "predictions" / "submission.tar.gz").exists()  # which is for VOC's server alone
    shown = capsys.readouterr().out
    assert "masks refined by pamr" in shown
    assert "oracle: threshold chosen with the masks" in shown

    again = run(settings(output, scenes()))
    assert again["stages"] == report["stages"]
    assert capsys.readouterr().out.count("cached") == len(names)


@pytest.mark.slow
def test_a_cut_training_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(settings(tmp_path / "whole", scenes()), "--until", "masks")
    monkeypatch.setattr(stages, "SAVE_EVERY", timedelta(0))
    from fbr_plugin.baselines import AMN, CAM

    def cut(self: Any, batch: Any, batch_idx: int) -> None:
        if self.trainer.global_step == 2:
            raise MemoryError

    for network in (CAM, AMN):
        with monkeypatch.context() as patch:
            patch.setattr(network, "on_train_batch_start", cut, raising=False)
            with pytest.raises(MemoryError):
                run(settings(tmp_path / "cut", scenes()), "--until", "masks")
    report = run(settings(tmp_path / "cut", scenes()), "--until", "masks")
    assert scores(report) == scores(whole)
    for name, record in whole["stages"].items():
        assert report["stages"][name]["digest"] == record["digest"], name
    assert report["stages"]["baseline"]["resumed"]
    assert not report["stages"]["masks"]["resumed"]


@pytest.mark.slow
def test_a_damaged_checkpoint_of_a_cut_training_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Any, batch: Any, batch_idx: int) -> None:
        if self.trainer.global_step == 2:
            raise MemoryError

    plan, until = settings(tmp_path / "out", scenes()), ["--until", "classifier"]
    with monkeypatch.context() as patch:
        patch.setattr(stages, "SAVE_EVERY", timedelta(0))
        patch.setattr(CAM, "on_train_batch_start", cut, raising=False)
        with pytest.raises(MemoryError):
            run(plan, *until)
    begun = tmp_path / "out" / "classifier.partial" / "begun" / "last.ckpt"
    whole = begun.read_bytes()
    words = ["fbr-plugin", "pipeline", "--config", str(tmp_path / "out.yaml"), *until]
    monkeypatch.setattr(sys, "argv", words)
    for content in (whole[: len(whole) // 2], b"", b"\x07\x80 random" * 99, b"classes of the data"):
        begun.write_bytes(content)
        with pytest.raises(SystemExit, match=r"^error: .*begun/last.ckpt is damaged or .* delete it, .*$"):
            main()
    begun.unlink()
    assert "classifier" in run(plan, *until)["stages"]


@pytest.mark.slow
def test_a_killed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    plan = settings(tmp_path / "whole", scenes())
    whole = run(plan, "--until", "masks")
    killed = tmp_path / "killed"
    process = launch(plan, "--output", killed, "--until", "masks")
    deadline = time.monotonic() + 120
    while not (killed / "affinity.partial" / "affinity").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (killed / "baseline" / "stage.json").stat().st_mtime_ns
    report = run({**plan, "output": str(killed)}, "--until", "masks")
    assert scores(report) == scores(whole)
    assert (killed / "baseline" / "stage.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_two_processes_share_every_stage(tmp_path: Path) -> None:
    flags = ["--trainer.devices", 2, "--trainer.strategy", "ddp"]
    few = tmp_path / "few.txt"
    few.write_text("\n".join(f"scene_{number:06d}" for number in range(3)))
    flags += ["--calibrate", few]
    process = launch(
        settings(tmp_path / "out", scenes()), *flags, "--until", "masks", "--data.loading.batch_size", 4
    )
    assert process.wait(timeout=300) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = ["classifier", "labels", "baseline", "affinity", "irn", "calibration", "masks"]
    assert list(report["stages"]) == names
    found = report["stages"]["masks"]["scores"]
    assert found.keys() == {"miou_unrefined", "miou_masks", "miou_calibrated"}
    assert found["miou_calibrated"] == found["miou_unrefined"]
    assert len(list((tmp_path / "out" / "masks" / "masks").iterdir())) == 16
    again = run(
        settings(tmp_path / "out", scenes()), *flags, "--until", "masks", "--data.loading.batch_size", 4
    )
    assert again["stages"] == report["stages"]  # nothing is made, so one process is enough


@pytest.mark.slow
def test_masks_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    run(settings(output, scenes()), "--until", "labels")
    written: list[str] = []
    from fbr_plugin.postprocess import pseudo_masks as masks

    real = masks.write_mask

    def write(path: Path, mask: Any) -> None:
        written.append(path.stem)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        real(path, mask)

    shutil.rmtree(output / "labels")
    monkeypatch.setattr(masks, "write_mask", write)
    with pytest.raises(OSError, match="No space left"):
        run(settings(output, scenes()), "--until", "labels")
    assert len(list((output / "labels.partial" / "labels").iterdir())) == 4
    run(settings(output, scenes()), "--until", "labels")
    assert len(written) == 5 + 12
    assert len(set(written)) == 16


@pytest.mark.slow
def test_dry_run_until_and_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = settings(tmp_path / "out", scenes())
    run(plan, "--dry-run")
    assert capsys.readouterr().out.count("not made yet") == 8
    assert not (tmp_path / "out").exists()
    run(plan, "--until", "labels")
    run(plan, "--until", "labels", "--classifier.model.init_args.optimizer.lr", "0.1", "--dry-run")
    shown = capsys.readouterr().out
    assert "model.init_args.optimizer.lr was 0.003, is 0.1" in shown
    assert "optimizer.name" not in shown
    assert "classifier will be made" in shown
    before = (tmp_path / "out" / "labels" / "stage.json").stat().st_mtime_ns
    run(plan, "--from", "labels", "--until", "labels")
    assert (tmp_path / "out" / "labels" / "stage.json").stat().st_mtime_ns > before
    with pytest.raises(ValueError, match="--until masking: this pipeline has the stages classifier, labels"):
        run(plan, "--until", "masking")
    with pytest.raises(ValueError, match="--from masks comes after --until labels"):
        run(plan, "--from", "masks", "--until", "labels")


@pytest.mark.slow
def test_a_training_is_kept_where_only_predictions_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = settings(tmp_path / "out", scenes())
    run(plan)
    capsys.readouterr()
    plan["irn"]["model"]["init_args"]["walk_steps"] = 2
    plan["segmentation"]["model"]["init_args"]["scales"] = [1.0, 0.5]
    run(plan, "--dry-run")
    reasons = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert reasons["irn"] == "cached"
    assert reasons["masks"] == "walk.init_args.walk_steps was 256, is 2"
    assert "masks will be made" in reasons["segmentation"]
    before = (tmp_path / "out" / "masks" / "stage.json").read_text()
    assert run(plan)["stages"]["masks"] != json.loads(before)
    capsys.readouterr()
    plan["segmentation"]["model"]["init_args"]["refine"] = "pamr"
    run(plan)
    shown = capsys.readouterr().out
    assert "segmentation: cached" in shown
    assert "predictions: model.init_args.refine was None, is pamr" in shown


@pytest.mark.slow
def test_photos_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_photos(tmp_path / "photos")
    plan = settings(tmp_path / "out", photos(root), seeds="compact")
    plan["segmentation"]["data"] = {"lists": {"val": "val"}}
    plan["segmentation"]["data"]["augmentation"] = {"rescale": [0.8, 1.2]}
    report = run(plan)
    own = report["stages"]["segmentation"]["made_of"]["settings"]["data"]["init_args"]
    assert own["lists"] == {"train": "train", "val": "val", "predict": None}
    assert (own["augmentation"]["crop_size"], own["augmentation"]["rescale"]) == (32, [0.8, 1.2])
    ids = read_ids(root / "ImageSets" / "Segmentation" / "train.txt")
    assert sorted(path.stem for path in (tmp_path / "out" / "seeds").glob("*.npz")) == sorted(ids)
    for name in ids:
        mask = read_mask(tmp_path / "out" / "masks" / "masks" / f"{name}.png", 2)
        assert mask.shape == read_mask(root / "SegmentationClass" / f"{name}.png", 2).shape
    files = report["stages"]["masks"]["made_of"]["settings"]["data"]["files"]
    assert files["test"].keys() == {"list", "images", "labels", "masks"}
    capsys.readouterr()

    moved = tmp_path / "elsewhere"
    shutil.move(root, moved)
    plan["data"]["init_args"]["root"] = str(moved)
    run(plan)
    assert capsys.readouterr().out.count("cached") == 9  # a copy of the data is the same data
    labels = (moved / "labels.csv").read_text()
    (moved / "labels.csv").write_text(labels.replace(f"{ids[1]},0,1", f"{ids[1]},1,1"))
    run(plan, "--dry-run")
    assert "data.files.fit.labels was" in capsys.readouterr().out


@pytest.mark.slow
def test_labels_and_refiners_are_checked_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = settings(tmp_path / "out", scenes())
    with pytest.raises(ValueError, match=r"affinity\.fg \(0\.1\) is below affinity\.bg \(0\.4\): swap them"):
        run(plan, "--affinity.fg", 0.1, "--affinity.bg", 0.4)
    with pytest.raises(
        ValueError, match=r"masks\.background_power=8.0 makes a background of the seeds: leave"
    ):
        run(plan, "--masks.background_power", 8, "--masks.background", 0.3)
    for option, value, message in (
        ("labels.fg", 1.5, r"labels\.fg must lie in \[0, 1\], as the scores of seeds do, got 1\.5"),
        ("masks.background", 5, r"masks\.background must lie in \[0, 1\], got 5\.0"),
        ("masks.scale", 0, r"masks\.scale must be above 0, got 0\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            run(plan, f"--{option}", value)
    with pytest.raises(ValueError, match=r"masks\.background_power must be above 0, got -1.0"):
        run(plan, "--masks.background_power", -1)
    with pytest.raises(
        ValueError, match=r"background_powers=.24.*4.* must be two powers with 0 < first <= second"
    ):
        run(plan, "--affinity.background_powers", "[24, 4]")
    with pytest.raises(
        FileNotFoundError, match=r"segmentation\.model\.weights=\S+nowhere\.pth does not exist"
    ):
        run(plan, "--segmentation.model.init_args.weights", tmp_path / "nowhere.pth")
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(ImportError, match=r"pip install 'fbr_plugin\[crf\]'"):
        run(plan, "--masks.refine", "crf")
    assert not (tmp_path / "out").exists()


def test_a_classifier_alone_makes_masks(tmp_path: Path) -> None:
    plan = settings(tmp_path / "out", scenes(), masks={"refine": "none"})
    for name in ("labels", "baseline", "irn", "segmentation"):
        del plan[name]
    report = run(plan)
    assert list(report["stages"]) == ["classifier", "masks"]
    assert report["stages"]["masks"]["scores"].keys() == {"miou_masks"}


@pytest.mark.slow
def test_seeds_of_bas_may_have_the_maps_of_the_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    init = TrainedCAM.__init__

    def noted(self: TrainedCAM, path: str, num_classes: int) -> None:
        read.append(path)
        init(self, path, num_classes)

    monkeypatch.setattr(TrainedCAM, "__init__", noted)
    plan = settings(tmp_path / "out", scenes(), masks={"refine": "none"})
    plan["baseline"]["model"] = {
        "class_path": "fbr_plugin.baselines.BAS",
        "init_args": {**SMALL, "seeds": "both", "combine_with": "classifier"},
    }
    plan["labels"] = None
    for name in ("irn", "segmentation"):
        del plan[name]
    made = run(plan)["stages"]
    assert list(made) == ["classifier", "baseline", "masks"]
    assert made["masks"]["made_of"]["inputs"].keys() == {"baseline", "classifier"}
    assert {Path(path).parent.name for path in read} == {"classifier"}
    saved = torch.load(tmp_path / "out" / "baseline" / "model.ckpt", weights_only=True)
    assert "combine_with" not in saved["hyper_parameters"]


@pytest.mark.slow
def test_voc_gets_its_archive_and_other_data_may_have_more_classes(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "voc", num_classes=20)
    voc = {
        "class_path": "fbr_plugin.data.VOCDataModule",
        "init_args": {"root": str(root), **SMALL_PHOTOS},
    }
    more = photos(write_photos(tmp_path / "photos", num_classes=25))
    for name, data in (("voc", voc), ("more", more)):
        plan = settings(tmp_path / f"out_{name}", data)
        for left_out in ("labels", "baseline", "irn"):
            del plan[left_out]
        assert "miou_predictions" in run(plan)["stages"]["predictions"]["scores"]
    assert (tmp_path / "out_voc" / "predictions" / "submission.tar.gz").is_file()


@pytest.mark.slow
def test_the_threshold_of_seeds_holds_for_their_power(tmp_path: Path) -> None:
    plan = settings(tmp_path / "out", scenes(), masks={"refine": "none"})
    for name in ("labels", "baseline", "irn", "segmentation"):
        del plan[name]
    plain = run(plan)
    raised = run({**plan, "masks": {"refine": "none", "power": 2.0}})
    assert scores(plain)["masks"] == scores(raised)["masks"]  # a power moves no pixel over its own threshold


@pytest.mark.slow
def test_what_decides_nothing_makes_nothing_again_and_content_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, maps, weights = write_photos(tmp_path / "photos"), tmp_path / "maps", tmp_path / "encoder.ckpt"
    for name in read_ids(root / "ImageSets" / "Segmentation" / "train.txt"):
        maps.mkdir(exist_ok=True)
        size = Image.open(root / "JPEGImages" / f"{name}.jpg").size
        Image.new("L", size, 128).save(maps / f"{name}.png")
    torch.save(CAM(2, **SMALL).state_dict(), weights)
    plan = settings(tmp_path / "out", photos(root))
    plan["data"]["init_args"]["saliency_dir"] = str(maps)
    plan["classifier"]["model"]["init_args"]["weights"] = str(weights)
    run(plan, "--until", "classifier")

    def reason(*words: object) -> str:
        capsys.readouterr()
        run(plan, "--until", "classifier", "--dry-run", *words)
        return capsys.readouterr().out.split(maxsplit=1)[1].strip()

    assert reason("--trainer.enable_progress_bar", "true", "--trainer.log_every_n_steps", 7) == "cached"
    assert reason("--data.loading.num_workers", 1, "--data.loading.eval_batch_size", 2) == "cached"
    assert reason("--data.loading.seed", 1) == "data.init_args.loading.seed was 0, is 1"
    moved = maps.rename(tmp_path / "elsewhere")
    plan["data"]["init_args"]["saliency_dir"] = str(moved)
    assert reason() == "cached"
    Image.new("L", size, 7).save(moved / f"{name}.png")
    assert reason().startswith("data.files.fit.saliency was")
    Image.new("L", size, 128).save(moved / f"{name}.png")
    torch.save(CAM(2, **SMALL).state_dict(), weights)
    assert reason().startswith("model.init_args.weights was")


@pytest.mark.slow
def test_photos_without_masks_have_no_scores(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos")
    shutil.rmtree(root / "SegmentationClass")
    plan = settings(tmp_path / "out", photos(root))
    without = {name: part for name, part in plan.items() if name != "irn"}
    with pytest.raises(ValueError, match=r"no threshold known.*set masks\.background"):
        run(without)
    assert not (tmp_path / "out").exists(), "a missing threshold shows before anything is trained"
    assert all(record["scores"] == {} for record in run(plan)["stages"].values())
    without["masks"]["background"] = 0.3
    assert "masks" in run(without)["stages"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainer": {"max_step": 3}}, "max_step"),
        ({"data": {"crop": 3}}, "crop"),
        ({"data": {"loading": {"batch": 3}}}, "batch"),
        ({"model": {"class_path": "fbr_plugin.baselines.AMN", "init_args": {"rate": 3}}}, "rate"),
    ],
)
def test_a_wrong_setting_of_a_late_stage_shows_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    plan = settings(tmp_path / "out", scenes())
    plan["segmentation"] |= change
    with pytest.raises((SystemExit, ArgumentError)) as caught:
        run(plan)
    assert message in f"{caught.value}{capsys.readouterr().err}"
    assert not (tmp_path / "out").exists()


def test_a_value_out_of_range_in_a_late_stage_shows_before_any_training(tmp_path: Path) -> None:
    plan = settings(tmp_path / "out", scenes())
    plan["segmentation"]["data"] = {"loading": {"batch_size": 0}}
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        run(plan)
    assert not (tmp_path / "out").exists()
