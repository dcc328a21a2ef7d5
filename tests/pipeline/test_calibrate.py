"""A pipeline whose threshold comes from the masks of a few images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.tiny import command, write_photos

from fbr_plugin.data import FolderDataModule
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.data.readers.images import read_mask, write_mask
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS

FEW = ("2007_000001", "2007_000002", "2007_000004")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six photos, of which three have a mask and are on the list `drawn`."""
    root = write_photos(tmp_path / "photos")
    for mask in (root / "SegmentationClass").iterdir():
        if mask.stem not in FEW:
            mask.unlink()
    write_list(root, *FEW)
    return root


def write_list(root: Path, *ids: str) -> None:
    (root / "ImageSets" / "Segmentation" / "drawn.txt").write_text("\n".join(ids))


def plan(root: Path, walk: bool = False, **changes: Any) -> dict[str, Any]:
    """The settings of a CAM, of IRN if wanted, and of masks."""

    def network(name: str, **options: Any) -> dict[str, Any]:
        adamw = {"name": "AdamW", "lr": 3e-3}
        options = {"encoder": "small", "optimizer": adamw, **options}
        return {"model": {"class_path": f"fbr_plugin.baselines.{name}", "init_args": options}}

    small = {"augmentation": {"crop_size": 32}, "loading": {"batch_size": 4}, "lists": {"val": "train"}}
    return {
        "output": str(root.parent / "out"),
        "data": {"class_path": "fbr_plugin.data.FolderDataModule", "init_args": {"root": str(root), **small}},
        "trainer": {"accelerator": "cpu", "devices": 1, "max_steps": 2, "limit_val_batches": 0},
        "classifier": network("CAM", scales=[1.0]),
        **({"irn": network("IRN", walk_steps=4), "instances": {}} if walk else {}),
        "labels": None,
        "masks": {"refine": "none"},
        "calibrate": "drawn",
        **changes,
    }


def run(settings: dict[str, Any], *words: object) -> dict[str, dict[str, Any]]:
    """Run the pipeline; its stages in the report."""
    config = Path(settings["output"]).with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings))
    command("pipeline", "--config", config, "--trainer.enable_progress_bar", "false", *words)
    report = Path(settings["output"]) / "report.json"
    return json.loads(report.read_text())["stages"] if report.exists() else {}


@pytest.mark.slow
@pytest.mark.parametrize("walk", [False, True], ids=["seeds", "random walk"])
def test_a_few_masks_choose_the_threshold(root: Path, walk: bool, capsys: pytest.CaptureFixture[str]) -> None:
    settings = plan(root, walk)
    stages = run(settings)
    found = stages["calibration"]["scores"]
    assert found.keys() == {"threshold_calibrated", "loss_calibrated", "loss_calibrated_std"}
    assert found["threshold_calibrated"] in BACKGROUND_THRESHOLDS
    assert stages["classifier"]["scores"] == stages["masks"]["scores"] == {}  # three masks score no set
    assert "expected loss of the calibrated threshold" in capsys.readouterr().out

    # The masks are those of that very background.
    by_hand = {**settings, "output": str(root.parent / "by_hand"), "calibrate": None}
    for name in ("2007_000000", "2007_000003", "2007_000005"):
        write_mask(
            root / "SegmentationClass" / f"{name}.png",
            read_mask(root / "SegmentationClassAug" / f"{name}.png", 2),
        )
    run(by_hand, "--masks.background", found["threshold_calibrated"])
    masks = sorted((root.parent / "by_hand" / "masks" / "masks").iterdir())
    assert len(masks) == 6
    for path in masks:
        assert path.read_bytes() == (root.parent / "out" / "masks" / "masks" / path.name).read_bytes()
    if walk:
        check_instances(root.parent / "out", found["threshold_calibrated"])

    # With all masks there are scores, and those of the calibrated threshold are those of the masks.
    capsys.readouterr()
    stages = run(settings)
    assert "calibration: cached" in capsys.readouterr().out  # as the classifier comes out the same
    scores = stages["masks"]["scores"]
    assert scores["miou_calibrated"] == scores["miou_masks"]
    oracle = stages["classifier"]["scores"]["miou_oracle"]
    assert walk or scores["miou_calibrated"] <= oracle

    # Masks without objects choose another threshold, with which instances are made again.
    if walk:
        for name in FEW:
            path = root / "SegmentationClass" / f"{name}.png"
            write_mask(path, np.zeros_like(read_mask(path, 2)))
        capsys.readouterr()
        stages = run(settings, "--until", "instances")
        assert "instances: calibration came out differently" in capsys.readouterr().out
        other = stages["calibration"]["scores"]["threshold_calibrated"]
        assert other != found["threshold_calibrated"]
        assert stages["instances"]["scores"]["background"] == other


def check_instances(output: Path, threshold: float) -> None:
    """The instances have the background of the masks: images of one cluster have the same pixels in both."""
    report = json.loads((output / "report.json").read_text())["stages"]
    assert report["instances"]["scores"] == {"background": threshold}
    assert threshold != 0.25
    for path in sorted((output / "masks" / "masks").iterdir()):
        found = read_instances(output / "instances" / "instances" / f"{path.stem}.json", 2)
        whole = (found["masks"] * found["labels"][:, None, None]).max(0, initial=0)
        assert (whole == read_mask(path, 2)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"instances": {"background": 0.25}},
            r"instances\.background is 0\.25, but calibrate drawn is to choose it: leave out one",
        ),
        (
            {"masks": {"power": 1.3}},
            r"masks\.power is 1\.3 and instances\.power is 1\.0: give both the same power",
        ),
    ],
    ids=["background", "power"],
)
def test_instances_that_cannot_share_the_threshold_show_before_any_training(
    root: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(plan(root, walk=True, **changes), "--dry-run")


def test_instances_come_after_the_calibration(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(plan(root, walk=True), "--dry-run")
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["classifier", "affinity", "irn", "calibration", "instances", "masks"]


@pytest.mark.slow
def test_a_change_of_list_or_masks_trains_nothing_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = plan(root)
    run(settings)

    def reasons() -> dict[str, str]:
        capsys.readouterr()
        run(settings, "--dry-run")
        return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())

    assert set(reasons().values()) == {"cached"}
    mask = root / "SegmentationClass" / f"{FEW[0]}.png"
    drawn = read_mask(mask, 2)
    write_mask(mask, (drawn + 1) % 2)
    changed = reasons()
    assert changed["classifier"] == "cached"
    assert changed["calibration"].startswith("calibration.masks was")
    assert "calibration will be made" in changed["masks"]
    write_mask(mask, drawn)
    assert set(reasons().values()) == {"cached"}
    write_list(root, *FEW[:2])
    assert reasons()["calibration"].startswith("calibration.list was")
    file = root.parent / "mine.txt"
    file.write_text("\n".join(FEW))
    settings["calibrate"] = str(file)
    assert set(reasons().values()) == {"cached"}  # the content of the list counts, not its place


@pytest.mark.slow
def test_scenes_are_calibrated_by_a_file_of_ids(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(f"scene_{number:06d}" for number in range(6)))
    settings = plan(tmp_path / "photos", calibrate=str(ids))
    settings["data"] = {
        "class_path": "fbr_plugin.data.SyntheticDataModule",
        "init_args": {"num_images": 12, "size": 32, "loading": {"batch_size": 4}},
    }
    stages = run(settings)
    assert stages["masks"]["scores"]["miou_calibrated"] <= stages["classifier"]["scores"]["miou_oracle"]
    ids.write_text("scene_000001\nscene_000099")
    with pytest.raises(
        ValueError, match=r"1 of the 2 ids on the list are of no image .* first is scene_000099"
    ):
        run(settings)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ((), ValueError, r"drawn\.txt is empty: write one image id per line"),
        (FEW[:1], ValueError, r"the calibration list drawn has 1 image: give at least 2, better 20"),
        (FEW[:1] * 2, ValueError, "drawn has 1 image"),
        ((*FEW, "2007_000099"), FileNotFoundError, r"1 ids of .* are of no image in .*2007_000099"),
        (
            (*FEW, "2007_000000"),
            FileNotFoundError,
            r"1 images of the calibration list drawn have no mask, .*2007_000000",
        ),
    ],
    ids=["empty", "one", "one twice", "unknown", "without mask"],
)
def test_a_wrong_list_shows_before_any_training(
    root: Path, ids: tuple[str, ...], error: type[Exception], message: str
) -> None:
    write_list(root, *ids)
    with pytest.raises(error, match=message):
        run(plan(root))
    assert not (root.parent / "out").exists()


@pytest.mark.slow
def test_a_list_that_does_not_exist_or_does_not_fit_shows_before_any_training(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"twenty\.txt does not exist: create it"):
        run(plan(root, calibrate="twenty"))
    with pytest.raises(ValueError, match=r"masks\.background is 0\.3, but calibrate drawn is to choose it"):
        run(plan(root, masks={"background": 0.3, "refine": "none"}))
    settings = plan(root)
    (root / "ImageSets" / "Segmentation" / "other.txt").write_text("\n".join([*FEW[:2], "2007_000005"]))
    settings["data"]["init_args"]["lists"] = {"predict": "other"}
    with pytest.raises(
        ValueError, match=r"1 images of the calibration list drawn are not on the list of pred"
    ):
        run(settings)
    assert not (root.parent / "out").exists()


def test_an_id_without_photo_is_named(root: Path) -> None:
    (root / "JPEGImages" / f"{FEW[1]}.jpg").unlink()
    data = FolderDataModule(root)
    data.calibrate = "drawn"
    with pytest.raises(FileNotFoundError, match=rf"1 ids of .* drawn are of no image in .*first is {FEW[1]}"):
        data.calibration()


def test_calibration_reads_masks_where_no_others_are(root: Path) -> None:
    data = FolderDataModule(root)
    data.calibrate = "drawn"
    items = data.calibration()
    assert [item["id"] for item in items] == list(FEW)
    assert all(item["mask"].any() and "photo" in item for item in items)
    assert "mask" not in data.dataset("test").source[0]
