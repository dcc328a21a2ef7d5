"""Localization data sets with masks, and the fine-grained ones: miniatures of each as it is unpacked."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.wsol_layouts import (
    HEIGHT,
    INSIDE,
    WIDTH,
    car,
    rectangle,
    save,
    write_aircraft,
    write_cars,
    write_cars_list,
    write_cub,
    write_dogs,
    write_lists,
    write_openimages,
    write_photo,
    write_xml,
)
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from fbr_plugin.data import Loading, WSOLDataModule
from fbr_plugin.data.dataset import SegmentationDataset
from fbr_plugin.data.fingerprint import fingerprint


def ids(dataset: SegmentationDataset) -> list[str]:
    return [dataset[index]["id"] for index in range(len(dataset))]


def truth(scale: int = 1) -> NDArray[np.int64]:
    """The mask of a miniature of OpenImages at `scale` times the image's size."""
    mask = np.where(rectangle((0, 12, WIDTH - 1, HEIGHT - 1), scale), 255, 0)
    mask[rectangle(INSIDE, scale)] = 1
    return mask


@pytest.fixture
def openimages(tmp_path: Path) -> Path:
    return write_openimages(tmp_path)


def test_openimages(openimages: Path) -> None:
    module = WSOLDataModule(openimages, "openimages", eval_size=None)
    assert module.class_names == ("01226z", "018xm")
    train, test = module.dataset("fit"), module.dataset("test")
    assert ids(train) == ["train/01226z/aa", "train/018xm/bb"]
    assert ids(test) == ["test/01226z/aa", "test/018xm/bb"]
    assert [test[index]["label"].tolist() for index in range(2)] == [[1, 0], [0, 1]]
    assert "object_mask" not in train[0]
    assert "object_mask" not in module.dataset("predict")[0]
    assert "boxes" not in test[0]
    mask = test[0]["object_mask"]
    assert mask.dtype == torch.int64
    assert np.array_equal(mask, truth(2))  # at the size at which it was annotated
    other = WSOLDataModule(openimages, "openimages", test_list="val")
    assert ids(other.dataset("test")) == ["val/01226z/aa", "val/018xm/bb"]


def test_masks_are_resized_at_once_and_batched_as_a_list(openimages: Path) -> None:
    module = WSOLDataModule(openimages, "openimages", eval_size=56, loading=Loading(eval_batch_size=2))
    (batch,) = module.test_dataloader()
    assert batch["image"].shape == (2, 3, 56, 56)
    expected = cv2.resize(truth(2).astype(np.uint8), (56, 56), interpolation=cv2.INTER_NEAREST)
    assert [np.array_equal(mask, expected) for mask in batch["object_mask"]] == [True, True]


def test_masks_of_openimages_in_every_mode_and_in_several_sizes(openimages: Path) -> None:
    data = openimages / "dataset/OpenImages"
    left, right, ignored = (data / f"test/01226z/aa_{part}.png" for part in ("m0", "m1", "ignore"))
    Image.open(left).convert("RGBA").save(left)
    Image.open(ignored).convert("L").resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).save(ignored)
    mask = WSOLDataModule(openimages, "openimages", eval_size=None).dataset("test")[0]["object_mask"]
    assert np.array_equal(mask, truth(2))
    everywhere = np.full((HEIGHT, WIDTH), 255, np.uint8)
    save(ignored, everywhere)
    for path in (left, right):
        save(path, np.zeros((HEIGHT, WIDTH), np.uint8))
    mask = WSOLDataModule(openimages, "openimages", eval_size=None).dataset("test")[0]["object_mask"]
    assert np.array_equal(mask, everywhere)


def test_a_mask_of_another_shape_than_its_image_is_stretched_with_one_warning(openimages: Path) -> None:
    for name in ("01226z/aa", "018xm/bb"):
        write_photo(openimages / f"dataset/OpenImages/test/{name}.jpg", 40, 40)
    dataset = WSOLDataModule(openimages, "openimages", eval_size=56).dataset("test")
    with pytest.warns(UserWarning, match=r"aa_m0.png is 80x40 pixels, but its image 40x40") as record:
        shapes = [dataset[index]["object_mask"].shape for index in range(2)]
    assert shapes == [(56, 56)] * 2
    assert len([entry for entry in record if "is stretched to its image" in str(entry.message)]) == 1


def test_wrong_lists_of_openimages(openimages: Path) -> None:
    module, lists = WSOLDataModule(openimages, "openimages"), openimages / "metadata/OpenImages"
    (lists / "test/localization.txt").write_text("test/01226z/aa.jpg,1,2,3,4\n")
    with pytest.raises(
        ValueError, match=r"localization.txt: the row test/01226z/aa.jpg,1,2,3,4 should have 3"
    ):
        module.dataset("test")
    rows = "test/01226z/aa.jpg,test/01226z/aa_m0.png,test/01226z/aa_ignore.png\n"
    (lists / "test/localization.txt").write_text(rows)
    with pytest.raises(
        ValueError, match=r"1 images of test have no mask .* the first is test/018xm/bb: copy"
    ):
        module.dataset("test")
    assert len(module.dataset("predict")) == 2  # which needs no masks
    (lists / "test/class_labels.txt").write_text("test/01226z/aa.jpg,0\n")
    with pytest.raises(ValueError, match=r"class_labels.txt has no class number of test/018xm/bb.jpg"):
        module.dataset("predict")
    (lists / "test/class_labels.txt").write_text("test/01226z/aa.jpg,0\ntest/018xm/bb.jpg,7\n")
    with pytest.raises(ValueError, match=r"gives test/018xm/bb the class 7, but .* the classes 0 to 1"):
        module.dataset("predict")
    (lists / "test/image_ids.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"image_ids.txt does not exist: copy the folder metadata of"):
        module.dataset("test")
    with pytest.raises(FileNotFoundError, match=r"mini/image_ids.txt|mini/class_labels.txt does not exist"):
        WSOLDataModule(openimages, "openimages", train_list="mini")
    (lists / "train/class_labels.txt").write_text("train/01226z/aa.jpg,0\ntrain/018xm/bb.jpg,0\n")
    with pytest.raises(ValueError, match=r"gives the class 0 \(from 0\) to images in 01226z and in 018xm"):
        WSOLDataModule(openimages, "openimages")
    (lists / "train/class_labels.txt").write_text("train/01226z/aa.jpg,0\ntrain/018xm/bb.jpg,2\n")
    with pytest.raises(ValueError, match=r"the classes \[0, 2\], which should be 0 to 1 without a gap"):
        WSOLDataModule(openimages, "openimages")


def test_a_missing_mask_of_openimages(openimages: Path) -> None:
    (openimages / "dataset/OpenImages/test/018xm/bb_ignore.png").unlink()
    dataset = WSOLDataModule(openimages, "openimages").dataset("test")
    with pytest.raises(FileNotFoundError, match=r"bb_ignore.png does not exist: check the folder"):
        dataset[1]


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    return write_cub(tmp_path / "CUB_200_2011")


def test_masks_of_cub(cub: Path) -> None:
    """A pixel that one annotator marked belongs to the bird."""
    expected = rectangle()
    expected[:2] = True
    for folder in ("../segmentations", cub.parent / "segmentations"):
        module = WSOLDataModule(cub, "cub", eval_size=None, mask_dir=folder)
        item = module.dataset("test")[0]
        assert np.array_equal(item["object_mask"], expected)
        assert item["boxes"].tolist() == [[2, 2, 22, 12]]
        assert "object_mask" not in module.dataset("fit")[0]
    assert "object_mask" not in WSOLDataModule(cub, "cub").dataset("test")[0]


def test_an_image_without_mask_and_a_mask_of_another_size(cub: Path) -> None:
    masks = cub.parent / "segmentations"
    module = WSOLDataModule(cub, "cub", mask_dir=masks)
    save(masks / "001.Auk/Auk_2.png", rectangle(scale=2))
    with pytest.raises(
        ValueError, match=r"Auk_2.png is 80x40 pixels, but its image is 40x20: resize the mask"
    ):
        module.dataset("test")[0]
    (masks / "001.Auk/Auk_2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 ids have no mask ID.png in .*: 001.Auk/Auk_2"):
        module.dataset("test")
    with pytest.raises(FileNotFoundError, match=r"mask_dir=.*nowhere does not exist"):
        WSOLDataModule(cub, "cub", mask_dir="nowhere").dataset("test")
    with pytest.raises(
        ValueError, match=r"mask_dir=m is for the layouts folder and cub: leave it out for dogs"
    ):
        WSOLDataModule(cub, "dogs", mask_dir="m")


def test_masks_of_your_own(tmp_path: Path) -> None:
    write_photo(tmp_path / "JPEGImages/a.jpg")
    write_xml(tmp_path / "Annotations/a.xml", [("cat", (1, 1, 5, 5))])
    write_lists(tmp_path, classes=["cat"])
    write_lists(tmp_path / "ImageSets/Main", train=["a"], test=["a"])
    mask = 7 * rectangle().astype(np.uint8)
    mask[:2] = 255
    save(tmp_path / "SegmentationClass/a.png", mask)
    module = WSOLDataModule(tmp_path, mask_dir="SegmentationClass", eval_size=None)
    found = module.dataset("test")[0]["object_mask"]
    assert np.array_equal(found == 1, mask == 7)
    assert np.array_equal(found == 255, mask == 255)


def test_masks_are_part_of_the_fingerprint(openimages: Path) -> None:
    source = WSOLDataModule(openimages, "openimages").dataset("test").source
    before = fingerprint(source)
    save(openimages / "dataset/OpenImages/test/018xm/bb_m0.png", rectangle((0, 0, 5, 5), 2))
    after = fingerprint(source)
    assert [name for name in before if before[name] != after[name]] == ["masks"]


def test_dogs(tmp_path: Path) -> None:
    module = WSOLDataModule(write_dogs(tmp_path), "dogs", eval_size=None)
    assert module.class_names == ("n01-Chihuahua", "n02-Maltese_dog")
    train, test = module.dataset("fit"), module.dataset("test")
    assert ids(train) == ["n01-Chihuahua/n01_1", "n02-Maltese_dog/n02_1"]
    assert ids(test) == ["n01-Chihuahua/n01_2", "n02-Maltese_dog/n02_2"]
    assert [test[index]["label"].tolist() for index in range(2)] == [[1, 0], [0, 1]]
    assert [test[index]["boxes"].tolist() for index in range(2)] == [[[*INSIDE]], [[*INSIDE], [0, 0, 3, 3]]]
    assert "boxes" not in train[0]


def test_wrong_lists_of_dogs(tmp_path: Path) -> None:
    write_dogs(tmp_path)
    module = WSOLDataModule(tmp_path, "dogs")
    write_xml(tmp_path / "Annotation/n01-Chihuahua/n01_2", [("dog", (50, 0, 60, 9))])
    with pytest.raises(ValueError, match=r"n01_2: the box \[50, 0, 60, 9\] .* is outside its image of 40x20"):
        module.dataset("test")[0]
    (tmp_path / "Annotation/n01-Chihuahua/n01_2").unlink()
    with pytest.raises(FileNotFoundError, match=r"Annotation.n01-Chihuahua.n01_2 does not exist"):
        module.dataset("test")
    files = np.array([["n01-Chihuahua/n01_1.jpg"]], object)
    savemat(tmp_path / "test_list.mat", {"file_list": files, "labels": np.array([[1], [2]])})
    with pytest.raises(ValueError, match=r"test_list.mat has 1 files, but 2 labels: copy it again"):
        module.dataset("test")
    savemat(tmp_path / "test_list.mat", {"file_list": files})
    with pytest.raises(
        ValueError, match=r"test_list.mat has no variable labels: is it another list's file\?"
    ):
        module.dataset("test")
    (tmp_path / "test_list.mat").write_text("not found")
    with pytest.raises(ValueError, match=r"test_list.mat is not a file of MATLAB"):
        module.dataset("test")
    (tmp_path / "test_list.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_list.mat does not exist: download it with the images"):
        module.dataset("test")


def test_cars(tmp_path: Path) -> None:
    module = WSOLDataModule(write_cars(tmp_path), "cars", eval_size=None)
    assert module.class_names == ("Acura TL 2012", "Volvo 240 1993")
    train, test = module.dataset("fit"), module.dataset("test")
    assert ids(train) == ["cars_train/00002", "cars_train/00001"]
    assert ids(test) == ["cars_test/00002", "cars_test/00001"]
    assert [test[index]["label"].tolist() for index in range(2)] == [[0, 1], [1, 0]]
    assert test[0]["boxes"].tolist() == [[*INSIDE]]
    assert "boxes" not in train[0]
    file = "cars_test_annos_withlabels.mat"
    (tmp_path / file).rename(tmp_path / "devkit" / file)
    assert ids(module.dataset("test")) == ids(test)


def test_wrong_annotations_of_cars(tmp_path: Path) -> None:
    module = WSOLDataModule(write_cars(tmp_path), "cars")
    file = tmp_path / "cars_test_annos_withlabels.mat"
    write_cars_list(file, [car("00001.jpg", 1, (9, 0, 3, 3))])  # one alone is an array as well
    with pytest.raises(ValueError, match=r"cars_test/00001: the box \[9, 0, 3, 3\] .* ends before it begins"):
        module.dataset("test")
    write_cars_list(file, [car("00001.jpg", 3)])
    with pytest.raises(ValueError, match=r"gives cars_test/00001 the class 3, but the classes are 1 to 2"):
        module.dataset("test")
    write_cars_list(file, [{"bbox_x1": 1, "fname": "00001.jpg"}])  # as cars_test_annos.mat, without classes
    with pytest.raises(
        ValueError, match=r"the annotation .*00001.jpg.* should have a fname, and numbers for cl"
    ):
        module.dataset("test")
    file.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"cars_test_annos_withlabels.mat does not exist: download it"
    ):
        module.dataset("test")


def test_aircraft(tmp_path: Path) -> None:
    module = WSOLDataModule(write_aircraft(tmp_path), "aircraft", eval_size=None)
    assert module.class_names == ("707-320", "F-16A/B")
    train, test = module.dataset("fit"), module.dataset("test")
    assert sorted(ids(train)) == ["0000001", "0000002", "0000003", "0000004"]
    assert ids(test) == ["0000005", "0000006"]
    assert [test[index]["label"].tolist() for index in range(2)] == [[1, 0], [0, 1]]
    assert [test[index]["boxes"].tolist() for index in range(2)] == [[[*INSIDE]]] * 2
    assert "boxes" not in train[0]


def test_wrong_lists_of_aircraft(tmp_path: Path) -> None:
    module, data = WSOLDataModule(write_aircraft(tmp_path), "aircraft"), tmp_path / "data"
    write_lists(data, images_box=["0000005 1 2 3"])
    with pytest.raises(
        ValueError, match=r"images_box.txt: the row 0000005 1 2 3 should have an id and 4 numbers"
    ):
        module.dataset("test")
    write_lists(data, images_box=["0000005 1 2 3 4"])
    with pytest.raises(ValueError, match=r"0000006 has no box in .*images_box.txt"):
        module.dataset("test")
    write_lists(data, images_variant_test=["0000005 Concorde"])
    with pytest.raises(
        ValueError, match=r"0000005 holds the class 'Concorde', but the classes are \['707-320'"
    ):
        module.dataset("test")
    (data / "images_variant_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"images_variant_test.txt does not exist"):
        module.dataset("test")
