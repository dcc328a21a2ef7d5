"""The demo in seconds: its table, files and figures, on scenes and on photos."""

import csv
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import command, write_photos
from PIL import Image
from torch.nn.utils import parameters_to_vector

from fbr_plugin import FBRConfig
from fbr_plugin.baselines import AMN, AMNFBR, CAM, SmallEncoder
from fbr_plugin.data import FolderDataModule, SyntheticDataModule
from fbr_plugin.experiments import paired
from fbr_plugin.experiments.arms import arms

QUICK = ["--cam_steps", 3, "--steps", 2, "--size", 32]
METHODS = ["CAM", *arms("amn")]
FIGURES = {
    f"{name}.png" for name in ("examples", "gate", "losses", "nroi", "semantic_graph", "threshold_sweep")
}


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of the test's own, on few scenes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paired, "SyntheticDataModule", partial(SyntheticDataModule, num_images=20))


def table(printed: str) -> list[list[str]]:
    """The rows of the printed table."""
    lines = printed[printed.index("mIoU oracle") :].split("\n\n")[0].splitlines()
    return [re.split(" {2,}", line) for line in lines[2:]]


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
    assert [row["step_share"] == "" for row in rows] == [True, True, False, False]
    assert float(rows[1]["miou_oracle"]) == result["scores"]["AMN"]["miou_oracle"]
    assert [row[0] for row in table(printed)] == METHODS
    assert f"{result['scores']['AMN']['miou_oracle']:.2f}" in table(printed)[1]
    assert "±" not in printed

    command("demo", *QUICK, "--seeds", "1,2")
    printed = capsys.readouterr().out
    assert "seed 1: read from" in printed
    assert "seed 1: CAM" not in printed
    assert [f"seed 2: {name}\n" in printed for name in METHODS] == [True] * 4
    assert [row[0] for row in table(printed)] == [*METHODS, *(f"{name} vs AMN" for name in METHODS[2:])]
    both = json.loads((output / "metrics.json").read_text())["seeds"]
    assert both[0] == result
    assert {path.name for path in (output / "seed_2").glob("*.png")} == FIGURES

    command("demo", *QUICK, "--steps", 1)
    assert "seed 1: AMN" in capsys.readouterr().out  # other settings: computed again


@pytest.mark.slow
def test_without_any_effect_all_arms_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same data, initialisation and batches: FBR's losses and the gate are the one difference."""
    off = {"fbr": FBRConfig(weight_fg=0, weight_bg=0, weight_seg=0, weight_sim=0)}
    same = {"AMN": (AMN, {}), "AMN + FBR": (AMNFBR, off), "AMN + gate": (AMNFBR, off)}
    monkeypatch.setattr(paired, "arms", lambda _: same)
    command("demo", *QUICK)
    scores = json.loads(Path("runs/demo/metrics.json").read_text())["seeds"][0]["scores"]
    for name in ("miou_oracle", "miou_label_free", "recall", "precision", "fp_cooccurring", "miou_sweep"):
        assert scores["AMN"][name] == scores["AMN + FBR"][name] == scores["AMN + gate"][name]


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
def test_photos_with_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_photos(tmp_path / "photos", count=4)
    pretrained, weights = SmallEncoder(), tmp_path / "small.pt"
    torch.save(pretrained.state_dict(), weights)
    fit, rates = paired.fit, []

    def checked(model: CAM, module: FolderDataModule, *rest: Any) -> Any:
        loaded = parameters_to_vector(model.encoder.parameters())
        rates.append((model.optimizer.lr, model.optimizer.head_lr))
        assert torch.equal(loaded, parameters_to_vector(pretrained.parameters())) == (len(rates) == 1)
        assert module.dataset("fit")[0]["image"].shape == (3, 16, 16)
        assert max(module.dataset("test")[0]["image"].shape) == 32
        return fit(model, module, *rest)

    monkeypatch.setattr(paired, "fit", checked)
    command("demo", *QUICK, "--data", photos, "--weights", weights, "--crop", 16)
    assert rates == [(2e-4, 2e-3), *[(1e-4, 1e-3)] * 3]


def test_settings_of_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, chosen = write_photos(tmp_path / "photos"), []

    def no_training(seed: int, settings: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        chosen.append((settings["size"], settings["crop"]))
        return {"seed": seed, "scores": {name: {} for name in METHODS}}

    monkeypatch.setattr(paired, "cached_seed", no_training)
    for words in ([], ["--weights", "file.pt"], ["--weights", "file.pt", "--size", 100]):
        command("demo", "--data", photos, *words)
    assert chosen == [(128, 128), (204, 128), (100, 100)]


def test_weights_that_are_missing_are_named_before_any_training() -> None:
    with pytest.raises(FileNotFoundError, match=r"weights=nowhere.pt does not exist"):
        command("demo", *QUICK, "--weights", "nowhere.pt")
    assert not Path("runs").exists()


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
    assert [row[0] for row in table(capsys.readouterr().out)] == ["CAM", *arms(baseline)]
    assert {path.name for path in Path("runs/demo").glob("*.png")} == FIGURES


def test_settings_are_checked_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^--seeds must be different whole numbers of at least 0.* got \[1, 1\]$"
    ):
        command("demo", "--seeds", "1,1")
    with pytest.raises(ValueError, match=r"^scenes need a size of at least 16 pixels"):
        command("demo", "--size", 0)
    (tmp_path / "taken").touch()
    with pytest.raises(ValueError, match=r"^taken cannot hold results \(File exists\)"):
        command("demo", "--output", "taken")


def test_results_of_photos_that_have_changed_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, made = write_photos(tmp_path / "photos"), []
    monkeypatch.setattr(paired, "run_seed", lambda *_: made.append(1) or {"scores": {}})
    settings = {"data": str(root), "size": 32, "crop": 32, "baseline": "amn"}
    for _ in range(2):
        paired.cached_seed(1, settings, tmp_path / "out", draw=False)
    assert made == [1]
    (root / "SegmentationClass" / "2007_000000.png").unlink()
    with pytest.warns(
        UserWarning, match=r"seed_1/metrics\.json is of other settings or photos: its results are"
    ):
        paired.cached_seed(1, settings, tmp_path / "out", draw=False)
    assert made == [1, 1]
