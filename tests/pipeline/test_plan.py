"""A plan writes nothing, builds no data module and reads no file twice, and says what is not made yet."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.tiny import command, write_coco, write_photos
from PIL import Image

from fbr_plugin.data import WSSSDataModule, write_mask
from fbr_plugin.pipeline import settings, training
from fbr_plugin.pipeline.build import build_stages

SMALL: dict[str, Any] = {"encoder": "small", "scales": [1.0]}
OPENED: list[Counter[Path]] = []  # those who listen


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED and event == "open" and isinstance(arguments[0], str | Path):
        OPENED[-1][Path(arguments[0])] += 1


sys.addaudithook(listen)  # which stays as long as the process does


@contextmanager
def opened(root: Path) -> Iterator[Counter[Path]]:
    """How often each file below a folder is opened."""
    counts: Counter[Path] = Counter()
    OPENED.append(Counter())
    yield counts
    found = OPENED.pop()
    counts.update({path: count for path, count in found.items() if path.is_relative_to(root)})


def write_voc(root: Path) -> Path:
    """Photos whose labels are in VOC's XML."""
    write_photos(root, num_classes=20)
    (root / "Annotations").mkdir()
    for number, photo in enumerate(sorted((root / "JPEGImages").iterdir())):
        name = ("aeroplane", "bicycle")[number % 2]
        content = f"<annotation><object><name>{name}</name></object></annotation>"
        (root / "Annotations" / f"{photo.stem}.xml").write_text(content)
    return root


WRITERS = {"Folder": write_photos, "VOC": write_voc, "COCO": write_coco}


def written(tmp_path: Path, kind: str, walk: bool = True, **options: Any) -> tuple[Path, Path]:
    """Images, and settings in which each network has arguments of its own; the folder, and the settings."""
    root = WRITERS[kind](tmp_path / "photos")
    size = {"augmentation": {"crop_size": 32}, "loading": {"batch_size": 4}}
    data = {
        "class_path": f"fbr_plugin.data.{kind}DataModule",
        "init_args": {"root": str(root), **size, **options},
    }
    plan = {
        "output": str(tmp_path / "out"),
        "data": data,
        "trainer": {"accelerator": "cpu", "devices": 1, "max_steps": 1, "enable_progress_bar": False},
        "classifier": {"model": {"class_path": "fbr_plugin.baselines.CAM", "init_args": SMALL}},
        "baseline": {
            "model": {"class_path": "fbr_plugin.baselines.AMN", "init_args": {**SMALL, "rates": [1, 2]}}
        },
        "irn": {"model": {"class_path": "fbr_plugin.baselines.IRN", "init_args": {"encoder": "small"}}},
        "masks": {"refine": "none"},
        "segmentation": {
            "model": {
                "class_path": "fbr_plugin.baselines.DeepLabV2",
                "init_args": {**SMALL, "rates": [1, 2]},
            },
            "data": {"lists": {"predict": data["init_args"].get("lists", {}).get("val", "val")}},
        },
    }
    if not walk:
        del plan["irn"]
    if kind == "COCO":
        plan["segmentation"]["data"] = {"lists": {"predict": "val2014"}}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return root, path


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All that is in a folder, and when it was written."""
    return {
        str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def reasons(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, str]:
    """The lines of a dry run, one for each stage."""
    capsys.readouterr()
    command("pipeline", "--config", path, "--dry-run")
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Folder", {}),
        ("Folder", {"label_source": "masks"}),
        ("VOC", {}),
        ("VOC", {"label_source": "xml"}),
        ("COCO", {}),
    ],
)
def test_a_plan_reads_each_file_once_and_builds_few_data_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any]
) -> None:
    root, path = written(tmp_path, kind, saliency_dir=str(tmp_path / "saliency"), **options)
    for photo in root.rglob("*.jpg"):
        (tmp_path / "saliency").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "saliency" / f"{photo.stem}.png")
    built: list[type] = []
    real = training._instance

    def instance(base: type, *arguments: Any) -> Any:
        built.append(base)
        return real(base, *arguments)

    monkeypatch.setattr(training, "_instance", instance)
    config = settings.parser().parse_args(["--config", str(path)])
    with opened(tmp_path) as counts:
        stages = build_stages(config)
    assert built == [WSSSDataModule] * 2  # segmentation has arguments of its own
    assert {name: count for name, count in counts.items() if count > 1} == {}
    lists = [name for name in counts if name.suffix in (".txt", ".csv", ".npy", ".xml", ".json")]
    assert lists, "the plan has read its lists"
    assert stages[0].settings["data"]["files"]["fit"]["saliency"]


@pytest.mark.slow
def test_a_plan_sees_what_was_edited_since_the_last(tmp_path: Path) -> None:
    root, path = written(tmp_path, "Folder")
    config = settings.parser().parse_args(["--config", str(path)])
    before = build_stages(config)[0].settings["data"]["files"]["fit"]
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("2007_000000,1,0", "2007_000000,1,1"))
    after = build_stages(config)[0].settings["data"]["files"]["fit"]
    assert {name for name in after if after[name] != before[name]} == {"labels"}


@pytest.mark.slow
def test_a_plan_sees_edited_maps_of_stuff_where_they_are_scored(tmp_path: Path) -> None:
    root, path = written(tmp_path, "Folder", stuff_dir="StuffClass")
    (root / "stuff.txt").write_text("grass")
    masks = sorted((root / "SegmentationClass").iterdir())
    for mask in masks:
        write_mask(root / "StuffClass" / mask.name, np.zeros_like(Image.open(mask)))
    config = settings.parser().parse_args(["--config", str(path)])
    before = build_stages(config)[0].settings["data"]["files"]
    write_mask(root / "StuffClass" / masks[0].name, np.ones_like(Image.open(masks[0])))
    data = build_stages(config)[0].settings["data"]
    after = data["files"]
    assert after["fit"] == before["fit"]
    assert {name for name in after["test"] if after["test"][name] != before["test"][name]} == {"stuff"}
    assert "stuff_dir" not in data["init_args"]  # the content counts, not its place


@pytest.mark.parametrize("walk", [True, False], ids=["walk", "label-free threshold"])
@pytest.mark.parametrize("label_source", ["json", "masks"])
def test_a_dry_run_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    walk: bool,
    label_source: str,
) -> None:
    _, path = written(tmp_path, "COCO", walk, label_source=label_source)
    monkeypatch.chdir(tmp_path)
    before = content(tmp_path)
    said = reasons(capsys, path)
    assert set(said.values()) == {"not made yet"}
    assert content(tmp_path) == before


@pytest.mark.slow
def test_masks_that_a_run_makes_first_decide_what_it_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, path = written(tmp_path, "COCO", lists={"val": "train2014"})
    command("pipeline", "--config", path)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {"miou_label_free"} <= report["stages"]["classifier"]["scores"].keys()
    assert "masks" in report["stages"]["classifier"]["made_of"]["settings"]["data"]["files"]["test"]
    assert set(reasons(capsys, path).values()) == {"cached"}

    mask = next((root / "SegmentationClass").iterdir())
    drawn = mask.read_bytes()
    mask.unlink()
    said = reasons(capsys, path)
    assert said["classifier"].startswith("data.files.test.masks was")
    assert said["classifier"].endswith("is not made yet")
    assert not mask.exists()
    command("pipeline", "--config", path)
    assert capsys.readouterr().out.count("cached") == len(report["stages"])
    assert mask.read_bytes() == drawn


@pytest.mark.slow
def test_a_run_after_a_dry_run_needs_no_masks_beforehand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, path = written(tmp_path, "COCO", walk=False)
    assert set(reasons(capsys, path).values()) == {"not made yet"}
    assert not (root / "SegmentationClass").exists()
    command("pipeline", "--config", path, "--until", "masks")
    assert len(list((root / "SegmentationClass").iterdir())) == 4
    capsys.readouterr()
    command("pipeline", "--config", path, "--until", "masks")
    assert capsys.readouterr().out.count("cached") == 4
