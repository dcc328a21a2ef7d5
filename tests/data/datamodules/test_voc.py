from pathlib import Path

import numpy as np
import pytest

from fbr_plugin.data import Lists, VOCDataModule, read_mask
from fbr_plugin.data.readers.labels import labels_of_mask

COUNTS = {"train": 1464, "val": 1449, "test": 1456, "train_aug": 10582}


def make_voc(root: Path, ids: tuple[str, ...] = ("2007_000032", "2011_003276")) -> Path:
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train_aug.txt").write_text("\n".join(ids))
    return root


@pytest.mark.parametrize("kind", [str, lambda name: int(name.replace("_", ""))], ids=["str", "int"])
def test_both_kinds_of_key(tmp_path: Path, kind: type) -> None:
    root = make_voc(tmp_path)
    rows = np.eye(20, dtype=np.float32)
    np.save(root / "cls_labels.npy", {kind("2007_000032"): rows[0], kind("2011_003276"): rows[14]})
    source = VOCDataModule(root).source("fit")
    assert source.ids == ["2007_000032", "2011_003276"]
    assert np.array_equal(np.stack([source.labels[name] for name in source.ids]), rows[[0, 14]])


def test_both_styles_of_list(tmp_path: Path) -> None:
    pairs = tuple(
        f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png" for i in ("2007_000032", "2007_000039")
    )
    source = VOCDataModule(make_voc(tmp_path, pairs), label_source="none").source("fit")
    assert source.ids == ["2007_000032", "2007_000039"]


def test_labels_from_xml(tmp_path: Path) -> None:
    root = make_voc(tmp_path, ("a",))
    (root / "Annotations").mkdir()
    objects = "".join(f"<object><name>{name}</name></object>" for name in ("person", "dog", "person"))
    (root / "Annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
    source = VOCDataModule(root, label_source="xml").source("fit")
    assert np.flatnonzero(source.labels["a"]).tolist() == [11, 14]
    (root / "Annotations/a.xml").write_text("<annotation><object><name>cow boy</name></object></annotation>")
    with pytest.raises(ValueError, match=r"a.xml holds \['cow boy'\]: the classes are"):
        VOCDataModule(root, label_source="xml").source("fit")
    (root / "Annotations/a.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"a.xml is not valid XML"):
        VOCDataModule(root, label_source="xml").source("fit")
    (root / "Annotations/a.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.xml does not exist"):
        VOCDataModule(root, label_source="xml").source("fit")


def test_label_file_of_another_shape(tmp_path: Path) -> None:
    root = make_voc(tmp_path)
    np.save(root / "cls_labels.npy", {"2007_000032": np.ones(21)})
    with pytest.raises(
        ValueError, match=r"the labels of 2007_000032 have the shape \(21,\) instead of \(20,\)"
    ):
        VOCDataModule(root).source("fit")
    np.save(root / "cls_labels.npy", [1, 2])
    with pytest.raises(ValueError, match=r"cls_labels.npy holds a ndarray: it should hold a dict"):
        VOCDataModule(root).source("fit")


@pytest.mark.parametrize(
    ("label", "message"),
    [(["cat"], "the labels of 2007_000032 are no numbers"), ([2] * 20, "2007_000032 are not all 0 or 1")],
)
def test_label_file_of_other_values(label: list[object], message: str, tmp_path: Path) -> None:
    root = make_voc(tmp_path)
    np.save(root / "cls_labels.npy", {"2007_000032": label})
    with pytest.raises(ValueError, match=message):
        VOCDataModule(root).source("fit")


@pytest.mark.slow
def test_real_lists_and_labels(real_data: Path) -> None:
    root = real_data / "voc12"
    for name, count in COUNTS.items():
        source = VOCDataModule(
            root, lists=Lists(name), label_source="none" if name == "test" else "npy"
        ).source("fit")
        assert len(source) == len(set(source.ids)) == count
        assert name == "test" or all(source.labels[i].any() for i in source.ids)
    with pytest.raises(ValueError, match="1456 ids of the list 'test' have no image labels in npy"):
        VOCDataModule(root, lists=Lists(val="test")).source("test")


@pytest.mark.slow
def test_real_labels_agree_with_the_masks(real_data: Path) -> None:
    source = VOCDataModule(real_data / "voc12", lists=Lists("train")).source("fit")
    masks = real_data / "voc12" / "SegmentationClassAug"
    agree = [
        np.array_equal(labels_of_mask(read_mask(masks / f"{name}.png", 20), 20), source.labels[name])
        for name in source.ids
    ]
    assert (sum(agree), len(agree)) == (1463, 1464)
