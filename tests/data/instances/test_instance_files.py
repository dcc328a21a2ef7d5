"""Files of instances: one JSON an image, VOC's pairs of PNGs, COCO's annotation files."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import rectangle
from numpy.typing import NDArray
from PIL import Image

from fbr_plugin.data import read_mask, write_mask
from fbr_plugin.data.instances.arrays import InstanceArrays, to_tensors
from fbr_plugin.data.instances.codes import encode
from fbr_plugin.data.instances.files import instances_path, read_instances, write_instances
from fbr_plugin.data.instances.voc import read_voc_instances, write_voc_instances
from fbr_plugin.data.readers.instances import instances_of, read_annotations
from fbr_plugin.instances import Instances


def some(number: int, height: int = 9, width: int = 14) -> Instances:
    """Random instances of 3 classes, which overlap."""
    generator = torch.Generator().manual_seed(number)
    return Instances(
        masks=torch.rand(number, height, width, generator=generator) < 0.4,
        labels=torch.randint(1, 4, (number,), generator=generator),
        scores=torch.rand(number, generator=generator),
    )


def equal(one: Instances | InstanceArrays, other: Instances | InstanceArrays) -> bool:
    pairs: Any = (one, other)
    keys = {*pairs[0]}
    return keys == {*pairs[1]} and all(np.array_equal(pairs[0][key], pairs[1][key]) for key in keys)


@pytest.mark.parametrize("number", [0, 1, 200])
def test_instances_of_an_image_come_back(tmp_path: Path, number: int) -> None:
    path, instances = instances_path(tmp_path / "new", "2007_000032"), some(number)
    write_instances(path, instances)
    assert path == tmp_path / "new" / "2007_000032.json"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    back = read_instances(path, 3)
    assert equal(instances, to_tensors(back))
    assert [back[key].dtype for key in ("masks", "labels", "scores")] == [bool, np.int64, np.float32]


def test_the_layout_of_a_file(tmp_path: Path) -> None:
    mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    mask[0, 0, 1] = True
    path = tmp_path / "a.json"
    write_instances(path, {"masks": mask, "labels": torch.tensor([7]), "scores": torch.tensor([0.5])})
    assert json.loads(path.read_text()) == {
        "image": "a",
        "size": [2, 3],
        "instances": [{"class": 7, "score": 0.5, "segmentation": {"size": [2, 3], "counts": "213"}}],
    }


def test_instances_that_are_not_written(tmp_path: Path) -> None:
    path, one = tmp_path / "a.json", some(1)
    for change, message in [
        ({"scores": torch.tensor([np.nan])}, r"a\.json: scores hold NaN or infinite values"),
        ({"labels": torch.tensor([0])}, r"a\.json: labels must be integers from 1 to"),
        ({"scores": torch.ones(2)}, r"a\.json: scores must be \[1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_instances(path, {**one, **change})  # type: ignore[typeddict-item]
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "b"}, r"a\.json holds the instances of the image 'b': rename or remove it"),
        (
            {"size": [9, 15]},
            r"a\.json: the segmentation of an object of a .*its runs do not fill an image of 15x9",
        ),
        ({"size": [2**20, 2**20]}, r"a\.json: a is 1048576x1048576 pixels, more than 100000000: shrink"),
        ({"size": "9x14"}, r"a has the size 9x14, but needs a height and a width"),
        ({"size": None}, r"a has the size None, but needs a height and a width"),
        ({"instances": None}, r"a\.json does not hold the instances of an image \(TypeError"),
        (
            {"instances": [{"class": 1}]},
            r"does not hold .*KeyError: 'score'\): it needs image, size and instances",
        ),
        ({"class": 4}, r"a\.json: instance 1 is of class 4, but the classes are 1 to 3: correct it"),
        ({"class": 0}, r"instance 1 is of class 0"),
        ({"class": True}, r"instance 1 is of class True"),
        ({"class": "cat"}, r"instance 1 is of class 'cat'"),
        ({"score": float("nan")}, r"a\.json: instance 1 has the score nan: it must be a finite number"),
        ({"score": 10**400}, r"instance 1 has the score 1000"),
        ({"score": "0.5"}, r"instance 1 has the score '0.5'"),
        ({"segmentation": {"size": [9, 14], "counts": "?"}}, r"cannot be rasterised .*object 1 of its 2"),
        ({"segmentation": {"size": [9, 14], "counts": "21"}}, r"its runs do not fill an image of 14x9"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.json"
    write_instances(path, some(2))
    content = json.loads(path.read_text())
    (content if change.keys() & content.keys() else content["instances"][0]).update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_instances(path, 3)


@pytest.mark.parametrize("text", ["", '{"image": "a", "si', "[" * 100_000, "\xff"])
def test_files_that_are_no_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin1")
    with pytest.raises(
        ValueError, match=r"a\.json is not valid JSON .*: write the instances of the image again"
    ):
        read_instances(path, 3)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON .*: unpack COCO's .* again"):
        read_annotations(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"a\.json does not hold the instances of an image"):
        read_instances(path, 3)
    with pytest.raises(
        FileNotFoundError, match=r"b\.json does not exist: write the instances of the image there"
    ):
        read_instances(tmp_path / "b.json", 3)


def test_pycocotools_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_instances(tmp_path / "a.json", some(2))
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ImportError, match=r"need pycocotools: pip install 'fbr_plugin\[coco\]'"):
        read_instances(tmp_path / "a.json", 3)


def write_pair(folder: Path, objects: Any, classes: Any) -> tuple[Path, Path]:
    paths = folder / "SegmentationObject" / "a.png", folder / "SegmentationClass" / "a.png"
    for path, mask in zip(paths, (objects, classes), strict=True):
        write_mask(path, np.array(mask))
    return paths


def test_a_pair_of_pngs(tmp_path: Path) -> None:
    objects = [[0, 2, 2, 255], [1, 2, 5, 5], [255, 0, 5, 5]]
    classes = [[0, 3, 3, 255], [2, 3, 3, 3], [255, 0, 255, 3]]
    found = read_voc_instances(*write_pair(tmp_path, objects, classes), 3)
    ignore = (np.array(objects) == 255) | (np.array(classes) == 255)
    assert found["labels"].tolist() == [2, 3, 3]
    assert np.array_equal(found["ignore"], ignore)
    assert np.array_equal(found["masks"], [(np.array(objects) == n) & ~ignore for n in (1, 2, 5)])
    assert [found[key].dtype for key in ("masks", "labels", "ignore")] == [bool, np.int64, bool]
    nothing = read_voc_instances(*write_pair(tmp_path, [[0, 255]], [[0, 255]]), 3)
    assert (nothing["masks"].shape, nothing["labels"].shape) == ((0, 1, 2), (0,))


@pytest.mark.parametrize(
    ("objects", "classes", "message"),
    [
        (
            [[1, 1]],
            [[1, 2]],
            r"Object.a\.png: the pixels of object 1 are of the classes \[1, 2\] in .*Class.a\.png",
        ),
        ([[1, 1]], [[0, 2]], r"object 1 are of the classes \[0, 2\]"),
        (
            [[7, 0]],
            [[0, 0]],
            r"object 7 are of no class in .*correct either mask; SegmentationObject belongs to",
        ),
        ([[7, 0]], [[255, 0]], r"object 7 are of no class"),
        ([[1, 1]], [[4, 4]], r"a\.png holds the value 4, but a mask of 3 classes"),
        ([[1, 1]], [[1]], r"Object.a\.png is 2x1 pixels, but .*Class.a\.png is 1x1: take both from the same"),
    ],
)
def test_pairs_that_are_wrong(tmp_path: Path, objects: Any, classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_voc_instances(*write_pair(tmp_path, objects, classes), 3)


def test_the_higher_score_is_on_top(tmp_path: Path) -> None:
    masks = torch.tensor([[[1, 1, 1, 0, 0]], [[0, 1, 1, 1, 0]], [[0, 0, 1, 1, 1]]]).bool()
    labels, ignore = torch.tensor([3, 1, 2]), torch.tensor([[False, False, False, False, True]])
    paths = tmp_path / "o.png", tmp_path / "c.png"
    write_voc_instances(*paths, {"masks": masks, "labels": labels, "scores": torch.tensor([0.9, 0.2, 0.5])})
    assert [read_mask(path, 254).tolist() for path in paths] == [[[1, 1, 1, 3, 3]], [[3, 3, 3, 2, 2]]]
    assert {Image.open(path).mode for path in paths} == {"P"}
    write_voc_instances(*paths, {"masks": masks, "labels": labels, "ignore": ignore})
    assert [read_mask(path, 254).tolist() for path in paths] == [[[1, 2, 3, 3, 255]], [[3, 1, 2, 2, 255]]]


def test_254_objects_fit_into_a_png(tmp_path: Path) -> None:
    pixel = torch.eye(255).bool()[:, None]
    labels = torch.arange(255) % 20 + 1
    paths = tmp_path / "o.png", tmp_path / "c.png"
    write_voc_instances(*paths, {"masks": pixel[:254], "labels": labels[:254]})
    back = read_voc_instances(*paths, 20)
    assert np.array_equal(back["masks"], pixel[:254])
    assert np.array_equal(back["labels"], labels[:254])
    with pytest.raises(ValueError, match=r"o\.png: 255 instances do not fit into a PNG, which numbers 254"):
        write_voc_instances(*paths, {"masks": pixel, "labels": labels})


def test_real_objects_come_back(real_data: Path, tmp_path: Path) -> None:
    for path in sorted((real_data / "msrc" / "SegmentationObject").glob("*.png"))[:40]:
        found = read_voc_instances(path, real_data / "msrc" / "SegmentationClass" / path.name, 14)
        assert found["masks"].any((1, 2)).all()
        assert found["masks"].sum(0).max() <= 1
        paths = tmp_path / "o.png", tmp_path / "c.png"
        write_voc_instances(*paths, to_tensors(found))
        assert equal(read_voc_instances(*paths, 14), found)


def box(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros((20, 30), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def annotations() -> dict[str, Any]:
    """Two images of 20x30 with a polygon, a compressed crowd and an uncompressed code; no object in one."""
    runs = {"size": [20, 30], "counts": [0, 40, 560]}
    rows: list[tuple[int, Any, int]] = [
        (17, [rectangle(2, 3, 10, 12)], 0),
        (4, encode(box(5, 5, 30, 20)), 1),
        (17, runs, 0),
    ]
    return {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 20, "width": 30} for k in (1, 2)],
        "annotations": [
            {"image_id": 1, "category_id": category, "segmentation": code, "iscrowd": crowd}
            for category, code, crowd in rows
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 4, "name": "car"}],
    }


def test_annotations_become_instances(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(annotations()))
    file = read_annotations(path, categories=None)
    assert (file.class_names, file.classes) == (("car", "cat"), {4: 1, 17: 2})
    found = instances_of(file, "1")
    assert np.array_equal(found["masks"], [box(2, 3, 10, 12), box(5, 5, 30, 20), box(0, 0, 2, 20)])
    assert (found["labels"].tolist(), found["iscrowd"].tolist()) == ([2, 1, 2], [False, True, False])
    assert instances_of(file, "1", crowds=False)["labels"].tolist() == [2, 2]
    assert [value.shape for value in instances_of(file, "2").values()] == [(0, 20, 30), (0,), (0,)]
    assert instances_of(read_annotations(path), "1")["labels"].tolist() == [16, 4, 16]  # COCO's 80 classes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": annotations()["images"] * 2}, r"own\.json lists the image 1 with id 1 twice: leave one"),
        (
            {"categories": [{"id": 17, "name": "cat"}]},
            r"of category 4, .* not one of the 1 categories: \[17\]",
        ),
        ({"categories": None}, r"own\.json does not hold COCO's instances \(TypeError"),
        (
            {"segmentation": {"size": [20, 30], "counts": [5]}},
            r"own\.json: the segmentation of .* of 1 .* do not fill",
        ),
        ({"segmentation": None}, r"cannot be rasterised \(TypeError"),
    ],
)
def test_annotations_that_are_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content, path = annotations(), tmp_path / "own.json"
    (content if change.keys() & content.keys() else content["annotations"][0]).update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        instances_of(read_annotations(path, categories=None), "1")


def test_an_absurd_size_in_annotations(tmp_path: Path) -> None:
    content, path = annotations(), tmp_path / "own.json"
    content["images"][0]["height"] = 2**30
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"own\.json: 1 is 30x1073741824 pixels, more than 100000000"):
        instances_of(read_annotations(path, categories=None), "1")
