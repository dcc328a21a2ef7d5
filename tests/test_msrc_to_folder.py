"""The converter of MSRC v2, on made-up images in the layout of the download."""

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import write_msrc
from PIL import Image

from examples.msrc_to_folder import CLASSES, STUFF, convert
from fbr_plugin.data import Augmentation, FolderDataModule


def read(path: Path) -> list[list[int]]:
    return np.asarray(Image.open(path)).tolist()


def test_masks_stuff_labels_and_lists(tmp_path: Path) -> None:
    source, target = write_msrc(tmp_path / "msrc"), tmp_path / "folder"
    assert convert(source, target) == 2  # one shows no object
    cow, person = 1 + CLASSES.index("cow"), 1 + CLASSES.index("person")
    assert read(target / "SegmentationClass/1_1_s.png") == [[cow, cow, 0, 0], [255, 255, 0, 0]]
    assert read(target / "StuffClass/1_1_s.png") == [[0, 0, 2, 4], [0, 0, 2, 4]]  # grass, sky
    assert read(target / "SegmentationClass/19_2_s.png") == [[person, person, 0, 255]]
    assert read(target / "StuffClass/19_2_s.png") == [[0, 0, 7, 0]]  # road
    for name in ("1_1_s", "19_2_s"):
        photo = Image.open(source / "Images" / f"{name}.bmp")
        assert read(target / "JPEGImages" / f"{name}.png") == np.asarray(photo).tolist()
    for name in ("train", "val"):
        assert (target / f"ImageSets/Segmentation/{name}.txt").read_text().split() == ["19_2_s", "1_1_s"]

    data = FolderDataModule(target, stuff_dir="StuffClass", augmentation=Augmentation(8))
    assert (data.class_names, data.stuff_names) == (CLASSES, STUFF)
    labels = {item["id"]: item["label"] for item in data.dataset("validate")}
    assert [CLASSES[c] for c in np.flatnonzero(labels["1_1_s"])] == ["cow"]
    assert [CLASSES[c] for c in np.flatnonzero(labels["19_2_s"])] == ["person"]
    table = data.stuff_table()
    assert table is not None
    assert [STUFF[s] for s in np.flatnonzero(table.cooccurring[cow - 1])] == ["grass", "sky"]


def test_classes_are_those_of_the_benchmark(real_data: Path) -> None:
    assert (real_data / "msrc/classes.txt").read_text().split() == [*CLASSES]
    assert (real_data / "msrc/stuff.txt").read_text().split() == [*STUFF]


def test_mistakes(tmp_path: Path) -> None:
    source = write_msrc(tmp_path / "msrc")
    with pytest.raises(FileNotFoundError, match=r"nowhere/Images holds no \*.bmp: name the folder"):
        convert(tmp_path / "nowhere", tmp_path / "folder")
    truth = source / "GroundTruth/1_1_s_GT.bmp"
    Image.new("RGB", (4, 2), (0, 64, 128)).save(truth)
    with pytest.raises(
        ValueError, match=r"1_1_s_GT.bmp holds the colour \(0, 64, 128\), which stands for no"
    ):
        convert(source, tmp_path / "folder")
    Image.new("RGB", (3, 2)).save(truth)
    with pytest.raises(ValueError, match=r"1_1_s_GT.bmp is 3x2 pixels, but its image is 4x2"):
        convert(source, tmp_path / "folder")
    truth.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 images have no file in .*first is 1_1_s_GT.bmp"):
        convert(source, tmp_path / "folder")
