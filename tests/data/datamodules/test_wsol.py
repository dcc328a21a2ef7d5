"""Data of localization in each of its layouts."""

from pathlib import Path

import pytest
import torch
from helpers.wsol_layouts import Box, write_cub, write_ilsvrc, write_lists, write_photo, write_xml

from fbr_plugin.data import Augmentation, Loading, WSOLDataModule


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of cats and dogs, 40 x 20, two of them to test on."""
    for i in range(4):
        write_photo(tmp_path / f"JPEGImages/img_{i}.jpg")
        boxes = [(11, 3, 30, 12), (1, 1, 40, 20)][: 1 + i // 3]
        write_xml(tmp_path / f"Annotations/img_{i}.xml", [(("cat", "dog")[i % 2], box) for box in boxes])
    write_lists(tmp_path, classes=["cat", "dog"])
    write_lists(tmp_path / "ImageSets/Main", train=["img_0", "img_1"], test=["img_2", "img_3"])
    return tmp_path


def test_folder(folder: Path) -> None:
    module = WSOLDataModule(
        folder, eval_size=None, augmentation=Augmentation(28, resize=32), loading=Loading(2)
    )
    assert (module.num_classes, module.class_names) == (2, ("cat", "dog"))
    batch = next(iter(module.train_dataloader()))
    assert set(batch) == {"id", "image", "label", "size"}
    assert batch["image"].shape == (2, 3, 28, 28)
    assert batch["label"].sum(0).tolist() == [1, 1]
    tested = list(module.test_dataloader())
    assert [batch["id"] for batch in tested] == [["img_2"], ["img_3"]]
    assert [batch["boxes"][0].tolist() for batch in tested] == [
        [[10, 2, 29, 11]],
        [[10, 2, 29, 11], [0, 0, 39, 19]],
    ]
    assert tested[0]["boxes"][0].dtype == torch.int64
    assert torch.cat([batch["label"] for batch in tested]).tolist() == [[1, 0], [0, 1]]
    predicted = list(module.predict_dataloader())
    assert [batch["id"] for batch in predicted] == [["img_2"], ["img_3"]]
    assert all("boxes" not in batch and "label" in batch for batch in predicted)


def test_boxes_follow_the_resized_image_and_batches_hold_lists(folder: Path) -> None:
    batch = next(
        iter(WSOLDataModule(folder, eval_size=80, loading=Loading(eval_batch_size=2)).val_dataloader())
    )
    assert batch["image"].shape == (2, 3, 80, 80)
    assert [boxes.tolist() for boxes in batch["boxes"]] == [
        [[20, 8, 58, 44]],
        [[20, 8, 58, 44], [0, 0, 78, 76]],
    ]
    assert batch["size"].tolist() == [[20, 40], [20, 40]]


def test_centre_crop_shifts_and_clips_the_boxes(folder: Path) -> None:
    """From 40x20 to 64x64, of which the middle 48 are taken: BAS's int(x / 40 * 64 - 8), from 0 to 47."""
    module = WSOLDataModule(folder, eval_size=64, centre_crop=48, ten_crop=True)
    whole = WSOLDataModule(folder, eval_size=64)
    for item, full in zip(module.dataset("test"), whole.dataset("test"), strict=False):
        assert torch.equal(item["image"], full["image"][:, 8:56, 8:56])
        expected = [[8, 0, 38, 27], [0, 0, 47, 47]][: len(item["boxes"])]
        assert item["boxes"].tolist() == expected
        assert item["crops"].shape == (10, 3, 48, 48)
        assert torch.equal(item["crops"][3], full["image"][:, 16:, 16:])
        assert torch.equal(item["crops"][4], item["image"])
        assert torch.equal(item["crops"][5:], item["crops"][:5].flip(-1))
    assert "crops" not in module.dataset("validate")[0]
    assert module.dataset("predict")[0]["image"].shape == (3, 64, 64)
    (batch,) = WSOLDataModule(
        folder, eval_size=64, centre_crop=48, ten_crop=True, loading=Loading(eval_batch_size=2)
    ).test_dataloader()
    assert batch["crops"].shape == (2, 10, 3, 48, 48)


def test_wrong_crops(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"ten_crop takes crops of the side centre_crop, which is None"):
        WSOLDataModule(folder, ten_crop=True)
    with pytest.raises(ValueError, match=r"centre_crop must be 1 to eval_size=224, got 256"):
        WSOLDataModule(folder, centre_crop=256)
    with pytest.raises(ValueError, match=r"'img_2' is 40x20 pixels, too small for centre_crop=32"):
        WSOLDataModule(folder, eval_size=None, centre_crop=32).dataset("test")[0]


def test_boxes_counted_from_zero(folder: Path) -> None:
    batch = next(iter(WSOLDataModule(folder, eval_size=None, box_origin=0).test_dataloader()))
    assert batch["boxes"][0].tolist() == [[11, 3, 30, 12]]


def test_a_table_of_labels_spares_training_the_annotations(folder: Path) -> None:
    (folder / "labels.csv").write_text("id,dog,cat\nimg_0,1,0\nimg_1,0,1\nimg_2,0,1\nimg_3,1,0\n")
    for i in (0, 1):
        (folder / f"Annotations/img_{i}.xml").unlink()
    module = WSOLDataModule(folder)
    assert [module.dataset("fit")[i]["label"].tolist() for i in (0, 1)] == [[0, 1], [1, 0]]
    assert module.dataset("test")[1]["boxes"].shape == (2, 4)
    (folder / "labels.csv").write_text("id,dog,cat\nimg_0,1,0\n")
    with pytest.raises(ValueError, match=r"1 ids of train have no row in .*labels.csv, the first is img_1"):
        module.dataset("fit")
    (folder / "labels.csv").write_text("id,dog,cat\nimg_0,1,1\nimg_1,0,1\n")
    with pytest.raises(ValueError, match=r"img_0 holds the classes \['cat', 'dog'\]"):
        module.dataset("fit")


def test_boxes_beyond_the_image_are_cut_off_with_one_warning(folder: Path) -> None:
    for i in (2, 3):
        write_xml(folder / f"Annotations/img_{i}.xml", [("cat", (0, -5, 41, 25))])
    with pytest.warns(UserWarning, match=r"img_2: .* reach beyond the image of 40x20 pixels") as record:
        batches = list(WSOLDataModule(folder, eval_size=None).test_dataloader())
    assert len([entry for entry in record if "reach beyond" in str(entry.message)]) == 1
    assert [batch["boxes"][0].tolist() for batch in batches] == [[[0, 0, 39, 19]]] * 2


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            [("cat", (1, 1, 5, 5)), ("dog", (1, 1, 5, 5))],
            r"img_2 holds the classes \['cat', 'dog'\], but loc",
        ),
        ([], r"img_2 holds the classes \[\], but localization takes images of one class"),
        ([("cow", (1, 1, 5, 5))], r"img_2 holds the class 'cow', but the classes are \['cat', 'dog'\]"),
        ([("cat", (9, 1, 5, 5))], r"img_2.xml: the box \[8, 0, 4, 4\] .* ends before it begins"),
        ([("cat", ("a", 1, 5, 5))], r"img_2.xml has boxes that are not four numbers"),
        ([("cat", (100, 1, 120, 5))], r"img_2: the box .* is outside its image of 40x20 pixels"),
    ],
)
def test_wrong_annotations(folder: Path, objects: list[tuple[str, Box]], message: str) -> None:
    write_xml(folder / "Annotations/img_2.xml", objects)
    with pytest.raises(ValueError, match=message):
        next(iter(WSOLDataModule(folder).test_dataloader()))


def test_images_without_boxes(folder: Path) -> None:
    (folder / "labels.csv").write_text("id,cat,dog\nimg_2,1,0\nimg_3,0,1\n")
    write_xml(folder / "Annotations/img_2.xml", [])
    module = WSOLDataModule(folder)
    with pytest.raises(ValueError, match=r"img_2.xml has no box: add one, or remove the image"):
        module.dataset("test")
    (folder / "Annotations/img_2.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"img_2.xml does not exist"):
        module.dataset("test")


def test_unknown_layout(tmp_path: Path) -> None:
    known = "'folder', 'cub', 'ilsvrc', 'openimages', 'dogs', 'cars', 'aircraft'"
    with pytest.raises(ValueError, match=f"layout must be one of {known}, got 'coco'"):
        WSOLDataModule(tmp_path, layout="coco")


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    """CUB-200-2011 with two classes of two images."""
    return write_cub(tmp_path / "CUB_200_2011")


def test_cub(cub: Path) -> None:
    module = WSOLDataModule(cub, "cub", eval_size=None)
    assert module.class_names == ("001.Auk", "002.Owl")
    train, test = module.dataset("fit"), module.dataset("test")
    assert [train[i]["id"] for i in range(len(train))] == ["001.Auk/Auk_1", "002.Owl/Owl_1"]
    assert [test[i]["id"] for i in range(len(test))] == ["001.Auk/Auk_2", "002.Owl/Owl_2"]
    assert [test[i]["label"].tolist() for i in range(2)] == [[1, 0], [0, 1]]
    assert [test[i]["boxes"].tolist() for i in range(2)] == [[[2, 2, 22, 12]], [[4, 2, 24, 12]]]
    assert "boxes" not in train[0]


def test_wrong_lists_of_cub(cub: Path) -> None:
    module = WSOLDataModule(cub, "cub")
    (cub / "bounding_boxes.txt").write_text("4 1.0 1.0 5.0 5.0\n")
    with pytest.raises(ValueError, match=r"001.Auk/Auk_2 has no row in .*bounding_boxes.txt"):
        module.dataset("test")
    (cub / "bounding_boxes.txt").write_text("4 1.0 1.0\n")
    with pytest.raises(ValueError, match=r"bounding_boxes.txt: the row 4 1.0 1.0 should have 5 columns"):
        module.dataset("test")
    (cub / "images.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"images.txt does not exist"):
        module.dataset("fit")


def test_ilsvrc(tmp_path: Path) -> None:
    module = WSOLDataModule(write_ilsvrc(tmp_path), "ilsvrc", eval_size=None)
    assert module.class_names == ("n01", "n02")
    items = [module.dataset("fit")[i] for i in range(3)]
    assert [item["id"] for item in items] == ["n02/n02_7", "n01/n01_1", "n01/n01_2"]
    assert [item["label"].tolist() for item in items] == [[0, 1], [1, 0], [1, 0]]
    item = module.dataset("test")[0]
    assert (item["id"], item["label"].tolist()) == ("val_1", [0, 1])
    assert item["boxes"].tolist() == [[0, 0, 39, 19], [3, 4, 5, 6]]


def test_real_photos(real_data: Path) -> None:
    module = WSOLDataModule(real_data / "animals", eval_size=None, loading=Loading(8))
    assert module.class_names == ("kangaroo", "raccoon")
    assert (len(module.dataset("fit")), len(module.dataset("test"))) == (170, 74)
    assert next(iter(module.train_dataloader()))["image"].shape == (8, 3, 224, 224)
    for batch in module.test_dataloader():
        boxes, (height, width) = batch["boxes"][0], batch["image"].shape[2:]
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2:] < torch.tensor([width, height])).all()
        assert batch["label"].sum() == 1
