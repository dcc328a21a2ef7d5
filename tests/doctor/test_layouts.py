"""The doctor on the other data modules: VOC's pickled labels and XML, COCO, localization, and scenes."""

import json

import numpy as np
import pytest
from helpers.tiny import write_coco, write_localization, write_photos

from fbr_plugin.data import (
    COCODataModule,
    FolderDataModule,
    Lists,
    SyntheticDataModule,
    VOCDataModule,
    WSOLDataModule,
)
from fbr_plugin.doctor.checkup import check
from fbr_plugin.doctor.findings import Report

SCORED = Lists("train", "train")
KEYS = "keys in cls_labels.npy that are spelled unlike the ids"
FEW = {"classes in no training image"}  # the tiny data sets lack most classes


@pytest.fixture
def voc(tmp_path):
    return write_photos(tmp_path, num_classes=20)


def rewrite(voc, change):
    """Change the dictionary from id to labels."""
    path = voc / "cls_labels.npy"
    labels = np.load(path, allow_pickle=True).item()
    np.save(path, np.array(change(labels), dtype=object))


def test_a_sound_voc_has_no_finding(voc, findings):
    assert {*findings(VOCDataModule(voc, SCORED))} == FEW
    rewrite(voc, lambda labels: {int(key.replace("_", "")): label for key, label in labels.items()})
    assert {*findings(VOCDataModule(voc, SCORED))} == FEW


@pytest.mark.parametrize(
    ("change", "what", "count"),
    [
        (lambda labels: {key.encode(): label for key, label in labels.items()}, KEYS, 6),
        (lambda labels: {f"{key}.jpg": label for key, label in labels.items()}, KEYS, 6),
        (lambda _: "labels", "labels that are no dictionary", 1),
        (
            lambda labels: labels | {"2007_000000": np.ones(21)},
            "labels in cls_labels.npy of another length",
            1,
        ),
        (
            lambda labels: labels | {"2007_000000": 2 * np.ones(20)},
            "labels in cls_labels.npy other than 0 and 1",
            1,
        ),
    ],
    ids=["bytes", "suffix", "text", "length", "twos"],
)
def test_wrong_pickled_labels_are_found(change, what, count, voc, findings):
    rewrite(voc, change)
    severity, cases = findings(VOCDataModule(voc, SCORED))[what]
    assert (severity, len(cases)) == ("error", count)


def test_pickled_labels_are_mended_beside(voc, doctor):
    rewrite(voc, lambda labels: {f"{key}.jpg": label for key, label in labels.items()})
    data = [
        "--data",
        "fbr_plugin.data.VOCDataModule",
        "--data.lists.train",
        "train",
        "--data.lists.val",
        "train",
    ]
    assert doctor(*data, "--data.root", voc, "--fix")[0] == 1
    assert doctor(*data, "--data.root", voc, "--data.label_file", "cls_labels.fixed.npy")[0] == 0


def test_voc_annotations_are_read_one_by_one(voc, findings):
    (voc / "Annotations").mkdir()
    for number in range(5):
        name = ("aeroplane", "bicycle")[number % 2] if number else "lion"
        text = f"<annotation><object><name>{name}</name></object></annotation>"
        (voc / "Annotations" / f"2007_{number:06d}.xml").write_text(text)
    found = findings(VOCDataModule(voc, SCORED, label_source="xml"))
    assert found["annotations that cannot be used"] == ("error", ["2007_000000", "2007_000005"])


def test_a_sound_coco_has_no_finding(tmp_path, findings):
    data = COCODataModule(write_coco(tmp_path))
    assert {*findings(data)} == FEW
    data.prepare_data()
    assert {*findings(data)} == FEW


def test_coco_lists_and_annotations_are_checked(tmp_path, findings):
    write_coco(tmp_path)
    (tmp_path / "some.txt").write_text("0\n1\n1\n77\n")
    found = findings(COCODataModule(tmp_path, Lists("some.txt", "val2014")))
    assert found["ids listed twice in some.txt"] == ("warning", ["1"])
    assert found["ids without a photo"] == ("error", ["77"])
    (tmp_path / "annotations" / "instances_train2014.json").write_text(json.dumps({}))
    found = findings(COCODataModule(tmp_path))
    assert found["training cannot read the image labels"][0] == "error"


def test_localization_is_checked(tmp_path, findings):
    data = WSOLDataModule(write_localization(tmp_path))
    assert findings(data) == {}
    xml = tmp_path / "Annotations" / "0.xml"
    xml.write_text(xml.read_text().replace("cat", "lion"))
    (tmp_path / "JPEGImages" / "1.jpg").write_bytes(b"no image")
    found = findings(data)
    assert found["annotations that cannot be used"] == ("error", ["0"])
    assert found["photos that cannot be read"] == ("error", ["1"])


def test_images_of_several_classes_are_no_localization(tmp_path, findings):
    write_localization(tmp_path)
    (tmp_path / "labels.csv").write_text("id,cat,dog\n0,1,1\n1,0,1\n2,1,0\n3,0,1\n")
    found = findings(WSOLDataModule(tmp_path))
    assert found["images of several classes"] == ("error", ["0"])


def test_scenes_have_no_files_to_check():
    with pytest.raises(ValueError, match="SyntheticDataModule reads no photos from disk: check a Folder"):
        check(SyntheticDataModule(num_images=1), Report(), True, 1)


def test_labels_may_come_from_the_masks(photos, findings):
    (photos / "labels.csv").unlink()
    assert findings(photos) == {}
    (photos / "SegmentationClass" / "00.png").unlink()
    assert findings(photos)["ids without a mask in SegmentationClass"] == ("error", ["00"])


def test_extreme_balance_is_a_warning(photos, findings):
    rows = "".join(f"0{number},1,{int(number == 0)}\n" for number in range(6))
    (photos / "labels.csv").write_text("id,cat,dog\n" + rows)
    found = findings(FolderDataModule(photos, mask_dir="none"))
    assert found == {"classes in every training image": ("warning", ["cat"])}
