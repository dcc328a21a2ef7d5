"""Export of instances to COCO's annotation file and VOC's PNGs, as COCO's own tools read them."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import auto_cli
from PIL import Image
from pycocotools.coco import COCO

from fbr_plugin.data.instances.files import read_instances, write_instances
from fbr_plugin.data.instances.voc import read_voc_instances
from fbr_plugin.data.readers.coco_categories import COCO_CATEGORIES
from fbr_plugin.data.readers.instances import instances_of, read_annotations
from fbr_plugin.instances import Instances
from fbr_plugin.postprocess.exports import export
from fbr_plugin.postprocess.instances.exports import coco_instances

NUMBERS = {"COCO_val2014_000000000042": 3, "2007_000032": 0, "photo": 1}
NAMES = [*NUMBERS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Instances of three images, of which one has none, and a list."""
    rng = torch.Generator().manual_seed(0)
    for row, (name, number) in enumerate(NUMBERS.items()):
        masks = torch.rand(number, 9 + row, 12, generator=rng) < 0.3
        labels, scores = torch.tensor([1, 12, 80])[:number], torch.tensor([0.5, 0.25, 1.0])[:number]
        write_instances(
            tmp_path / "in" / f"{name}.json", Instances(masks=masks, labels=labels, scores=scores)
        )
    (tmp_path / "list.txt").write_text("\n".join(NAMES))
    return tmp_path


def command(folder: Path, what: str, *more: object) -> Path:
    words = ["--predictions", folder / "in", "--list", folder / "list.txt", "--what", what]
    words += ["--output", folder / "out", *more]
    done: Path = auto_cli(export, as_positional=False, args=[str(word) for word in words], allow_abbrev=True)
    return done


def test_cocos_own_tools_read_the_file(folder: Path) -> None:
    assert command(folder, "coco-instances") == folder / "out"
    coco = COCO(str(folder / "out"))
    assert sorted(map(str, coco.imgs)) == ["2007000032", "42", "photo"]
    assert coco.imgs[42] == {"id": 42, "file_name": f"{NAMES[0]}.jpg", "height": 9, "width": 12}
    assert {number: each["name"] for number, each in coco.cats.items()} == COCO_CATEGORIES
    records = coco.loadAnns(coco.getAnnIds(imgIds=[42]))
    found = read_instances(folder / "in" / f"{NAMES[0]}.json", 80)
    assert [record["category_id"] for record in records] == [1, 13, 90]
    assert [record["score"] for record in records] == [0.5, 0.25, 1.0]
    assert sorted(coco.anns) == [1, 2, 3, 4]
    for record, mask in zip(records, found["masks"], strict=True):
        assert np.array_equal(coco.annToMask(record), mask)
        y, x = mask.nonzero()
        assert record["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert (record["area"], record["iscrowd"]) == (mask.sum(), 0)


def test_the_file_is_read_back(folder: Path) -> None:
    coco_instances(
        folder / "in", NAMES, folder / "out.json", {5: "five"} | dict.fromkeys(range(10, 90), "more")
    )
    file = read_annotations(folder / "out.json", categories=None)
    assert file.class_names[:2] == ("five", "more")
    for name in NAMES:
        found, back = read_instances(folder / "in" / f"{name}.json", 80), instances_of(file, name)
        assert np.array_equal(found["masks"], back["masks"])
        assert np.array_equal(found["labels"], back["labels"])


def test_own_classes_and_names_of_files(folder: Path) -> None:
    (folder / "images").mkdir()
    for name in NAMES:
        Image.new("RGB", (3, 3)).save(folder / "images" / f"{name}.png")
    command(folder, "coco-instances", "--coco_ids", "false", "--image_dir", folder / "images")
    content = json.loads((folder / "out").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{name}.png" for name in NAMES]
    assert content["categories"][:1] == [{"id": 1, "name": "class 1"}]
    assert len(content["categories"]) == 80
    assert [record["category_id"] for record in content["annotations"]] == [1, 12, 80, 1]


def test_pairs_of_pngs(folder: Path) -> None:
    assert command(folder, "voc-instances") == folder / "out"
    for name, number in NUMBERS.items():
        found = read_instances(folder / "in" / f"{name}.json", 80)
        paths = [
            folder / "out" / kind / f"{name}.png" for kind in ("SegmentationObject", "SegmentationClass")
        ]
        back = read_voc_instances(*paths, 80)
        assert back["labels"].tolist() == found["labels"].tolist()
        assert np.array_equal(back["masks"].any(0), found["masks"].any(0))
        if number:
            best = found["scores"].argmax()
            assert np.array_equal(back["masks"][best], found["masks"][best])


def test_instances_that_cannot_be_exported(folder: Path) -> None:
    other = folder / "other"
    write_instances(folder / "in" / "42.json", some())
    with pytest.raises(
        ValueError, match=r"42 and COCO_val2014_000000000042.jpg are the same image: list it once"
    ):
        coco_instances(folder / "in", [NAMES[0], "42"], other)
    with pytest.raises(ValueError, match=r"042\.json: instance 2 is of class 12, but the classes are 1 to 1"):
        coco_instances(folder / "in", NAMES, other, {1: "person"})
    with pytest.raises(FileNotFoundError, match=r"1 of 2 instances are missing, the first is that of id b"):
        coco_instances(folder / "in", ["photo", "b"], other)
    assert not other.exists()
    many: Any = {"masks": torch.eye(255).bool()[:, None], "labels": torch.ones(255).long()}
    write_instances(folder / "in" / "photo.json", {**many, "scores": torch.ones(255)})
    with pytest.raises(ValueError, match=r"photo\.png: 255 instances do not fit into a PNG"):
        command(folder, "voc-instances")


def some() -> Instances:
    return Instances(masks=torch.ones(1, 2, 2).bool(), labels=torch.ones(1).long(), scores=torch.ones(1))


def test_memory_does_not_grow_with_the_instances(tmp_path: Path) -> None:
    masks = torch.eye(40).bool()[:, None].expand(40, 30, 40)
    many = Instances(masks=masks, labels=torch.ones(40).long(), scores=torch.rand(40))
    peaks, sizes = [], []
    for count in (3, 15):
        names = [f"image_{number}" for number in range(count)]
        for name in names:
            write_instances(tmp_path / "in" / f"{name}.json", many)
        tracemalloc.start()
        coco_instances(tmp_path / "in", names, tmp_path / "out.json")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append((tmp_path / "out.json").stat().st_size)
    assert json.loads((tmp_path / "out.json").read_text())["annotations"][-1]["id"] == 40 * 15
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 5
