"""The demo in seconds: its table, files and figures, on scenes and on photos."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import command, write_photos
from PIL import Image

from fbr_plugin import FBRConfig
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.experiments import paired

QUICK = ["--cam_steps", 3, "--steps", 2, "--size", 32]
FIGURES = {"examples.png", "gate.png", "losses.png", "nroi.png", "threshold_sweep.png"}
METHODS = ["CAM", "AMN", "AMN + FBR"]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of the test's own, on few scenes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paired, "SyntheticDataModule", partial(SyntheticDataModule, num_images=20))


def table(printed: str) -> list[list[str]]:
    """The rows of the printed table."""
    lines = printed[printed.index("mIoU oracle") :].split("\n\n")[0].splitlines()
    return [line.split("  ") for line in lines[2:]]


@pytest.mark.slow
def test_one_seed_and_then_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command("demo", *QUICK)
    printed = capsys.readouterr().out
    output = tmp_path / "runs" / "demo"
    assert {path.name for path in output.iterdir()} == {*FIGURES, "metrics.json", "metrics.csv", "seed_1"}
    for name in FIGURES:
        assert np.asarray(Image.open(output / name)).std() > 1
    content = json.loads((output / "metrics.json").read_text())
    assert content["settings"]["cam_steps"] == 3
    (result,) = content["seeds"]
    assert list(result["scores"]) == METHODS
    for scores in result["scores"].values():
        assert 0 <= scores["miou_label_free"] <= scores["miou_oracle"] == max(scores["miou_sweep"])
    rows = list(csv.DictReader((output / "metrics.csv").open()))
    assert [row["method"] for row in rows] == METHODS
    assert [row["fbr_share"] == "" for row in rows] == [True, True, False]
    assert float(rows[1]["miou_oracle"]) == result["scores"]["AMN"]["miou_oracle"]
    assert [row[0] for row in table(printed)] == METHODS
    assert f"{result['scores']['AMN']['miou_oracle']:.2f}" in table(printed)[1]
    assert "±" not in printed

    command("demo", *QUICK, "--seeds", "1,2")
    printed = capsys.readouterr().out
    assert "seed 1: read from" in printed
    assert "seed 1: CAM" not in printed
    assert "seed 2: AMN + FBR" in printed
    assert [row[0] for row in table(printed)] == [*METHODS, "difference"]
    both = json.loads((output / "metrics.json").read_text())["seeds"]
    assert both[0] == result
    values = [[seed["scores"][name]["recall"] for seed in both] for name in METHODS[1:]]
    difference = np.subtract(values[1], values[0])
    assert f"{difference.mean():.2f} ± {difference.std(ddof=1):.2f}" in printed
    assert {path.name for path in (output / "seed_2").glob("*.png")} == FIGURES

    command("demo", *QUICK, "--steps", 1)
    assert "seed 1: AMN" in capsys.readouterr().out  # other settings: computed again


@pytest.mark.slow
def test_without_weights_both_arms_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same data, initialisation and batches: FBR's terms are the one difference."""
    off = FBRConfig(weight_fg=0, weight_bg=0, weight_seg=0, weight_sim=0)
    monkeypatch.setitem(paired.PRESETS, "recommended", {"fbr": off})
    command("demo", *QUICK)
    scores = json.loads(Path("runs/demo/metrics.json").read_text())["seeds"][0]["scores"]
    for name in ("miou_oracle", "miou_label_free", "recall", "precision", "fp_cooccurring", "miou_sweep"):
        assert scores["AMN"][name] == scores["AMN + FBR"][name]


@pytest.mark.slow
def test_the_published_setting_has_no_gate() -> None:
    command("demo", *QUICK, "--fbr", "amn")
    assert {path.name for path in Path("runs/demo").glob("*.png")} == FIGURES - {"gate.png"} | {
        "semantic_graph.png"
    }
    assert json.loads(Path("runs/demo/metrics.json").read_text())["settings"]["fbr"] == "amn"


@pytest.mark.slow
def test_photos_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", count=4)  # fewer than fill a batch or a figure
    command("demo", *QUICK, "--data", photos, "--output", "own")
    rows = table(capsys.readouterr().out)
    assert [row[0] for row in rows] == METHODS
    assert {path.name for path in Path("own").glob("*.png")} == FIGURES
    result = json.loads(Path("own/metrics.json").read_text())["seeds"][0]
    assert result["class_names"] == ["class_1", "class_2"]
    assert "fp_cooccurring" not in result["scores"]["CAM"]


@pytest.mark.slow
def test_real_photos(tmp_path: Path, real_data: Path) -> None:
    source, photos = real_data / "ccp5", tmp_path / "photos"
    (photos / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name in ("JPEGImages", "SegmentationClass", "classes.txt", "labels.csv"):
        (photos / name).symlink_to(source / name)
    ids = (source / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    (photos / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(ids[:16]))
    command("demo", *QUICK, "--data", photos, "--output", "real")
    assert {path.name for path in Path("real").glob("*.png")} == FIGURES


def test_photos_without_masks_are_named_before_any_training(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    shutil.rmtree(photos / "SegmentationClass")
    with pytest.raises(ValueError, match=r"the demo scores seeds, and .*photos has no masks"):
        command("demo", *QUICK, "--data", photos, "--output", "own")
    assert not Path("own").exists()


@pytest.mark.parametrize("option", ["steps", "cam_steps"])
def test_no_steps(option: str) -> None:
    with pytest.raises(ValueError, match=f"--{option} must be at least 1, got 0"):
        command("demo", *QUICK, f"--{option}", 0)


@pytest.mark.parametrize("seeds", ["x", "1,", "1.5"])
def test_seeds_that_are_no_numbers_are_named(seeds: str) -> None:
    with pytest.raises(ValueError, match=f"--seeds takes whole numbers separated by commas, got '{seeds}'"):
        command("demo", "--seeds", seeds)


def test_a_folder_that_is_missing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        command("demo", "--data", "nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["ppc", "bas"])
def test_other_baselines(baseline: str, capsys: pytest.CaptureFixture[str]) -> None:
    command("demo", *QUICK, "--baseline", baseline)
    name = baseline.upper()
    assert [row[0] for row in table(capsys.readouterr().out)] == ["CAM", name, f"{name} + FBR"]
    assert {path.name for path in Path("runs/demo").glob("*.png")} == FIGURES
