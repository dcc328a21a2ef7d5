from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbr_plugin.data import Augmentation, FolderDataModule, Lists, Loading, read_mask, write_mask

MakeFolder = Callable[..., Path]


def open_folder(root: Path, **options: object) -> FolderDataModule:
    return FolderDataModule(root, augmentation=Augmentation(16), loading=Loading(2), **options)


def test_stages_and_batches(make_folder: MakeFolder) -> None:
    module = open_folder(make_folder())
    assert (module.num_classes, module.class_names) == (2, ("cat", "dog"))
    batch = next(iter(module.train_dataloader()))
    assert set(batch) == {"id", "image", "label", "size"}
    assert batch["image"].shape == (2, 3, 16, 16)
    batches = list(module.val_dataloader())
    assert [batch["id"] for batch in batches] == [[f"img_{i}"] for i in range(4)]
    assert [tuple(batch["image"].shape) for batch in batches] == [(1, 3, 20, 24 + i) for i in range(4)]
    assert all(
        batch["mask"].shape == batch["image"].shape[:1] + batch["image"].shape[2:] for batch in batches
    )
    assert torch.cat([batch["size"] for batch in batches]).tolist() == [[20, 24 + i] for i in range(4)]
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert "mask" not in next(iter(module.predict_dataloader()))


def test_labels_from_masks_and_none(make_folder: MakeFolder) -> None:
    root = make_folder(csv=None)
    labels = [batch["label"].tolist() for batch in open_folder(root).predict_dataloader()]
    assert labels == [[[1, 0]], [[0, 1]], [[1, 0]], [[0, 1]]]
    assert "label" not in next(iter(open_folder(root, label_source="none").predict_dataloader()))


def test_columns_of_the_table_may_come_in_any_order(make_folder: MakeFolder) -> None:
    module = open_folder(make_folder(csv="id,dog,cat"))
    assert next(iter(module.predict_dataloader()))["label"].tolist() == [[0, 1]]


def test_pseudo_labels(make_folder: MakeFolder) -> None:
    root = make_folder()
    for i in range(3):
        write_mask(root / "labels" / f"img_{i}.png", np.full((20, 24 + i), 2))
    module = open_folder(root, pseudo_label_dir=root / "labels")
    predicted = list(module.predict_dataloader())
    assert [bool("pseudo_label" in batch) for batch in predicted] == [True, True, True, False]
    with pytest.raises(FileNotFoundError, match=r"img_3.png does not exist"):
        list(module.train_dataloader())
    write_mask(root / "labels" / "img_3.png", np.full((20, 26), 2))
    with pytest.raises(ValueError, match=r"img_3.png is 26x20 pixels, but its image is 27x20"):
        list(module.train_dataloader())


def test_other_lists_and_suffixes(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "JPEGImages/img_1.jpg").rename(root / "JPEGImages/img_1.jpeg")
    Image.open(root / "JPEGImages/img_2.jpg").save(root / "JPEGImages/img_2.png")
    (root / "JPEGImages/img_2.jpg").unlink()
    pairs = [f"/JPEGImages/img_{i}.jpg /SegmentationClass/img_{i}.png" for i in (2, 1)]
    (root / "ImageSets/Segmentation/some.txt").write_text("\n".join(pairs))
    module = open_folder(root, lists=Lists(predict="some.txt"))
    assert [batch["id"] for batch in module.predict_dataloader()] == [["img_2"], ["img_1"]]


def test_names_as_cameras_write_them(make_folder: MakeFolder) -> None:
    root = make_folder()
    for name, suffix in (("img_1", ".JPG"), ("img_2", ".PNG"), ("img_3", ".JPEG")):
        (root / f"JPEGImages/{name}.jpg").rename(root / f"JPEGImages/{name}{suffix}")
    (root / "ImageSets/Segmentation/some.txt").write_text("img_1.JPG\nimg_2\nimg_3.JPEG\n")
    module = open_folder(root, lists=Lists(predict="some"))
    assert [batch["id"] for batch in module.predict_dataloader()] == [["img_1"], ["img_2"], ["img_3"]]


def test_an_id_with_a_space(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "ImageSets/Segmentation/train.txt").write_text("img 1\nimg 2\n")
    with pytest.raises(ValueError, match=r"'img 1' and 'img 2' both begin with the id img: ids must"):
        open_folder(root).dataset("fit")


def test_rows_that_contradict_each_other(make_folder: MakeFolder) -> None:
    root = make_folder()
    with (root / "labels.csv").open("a") as file:
        file.write("img_2,1,0\n")  # as before
    open_folder(root).dataset("fit")
    with (root / "labels.csv").open("a") as file:
        file.write("img_2,1,1\n")
    with pytest.raises(ValueError, match=r"labels.csv has two rows of img_2 that differ: leave one"):
        open_folder(root).dataset("fit")


def test_image_with_no_foreground_class(make_folder: MakeFolder) -> None:
    root = make_folder(csv=None)
    write_mask(root / "SegmentationClass/img_0.png", np.zeros((20, 24)))
    assert next(iter(open_folder(root).val_dataloader()))["label"].tolist() == [[0, 0]]


def test_mask_of_another_size(make_folder: MakeFolder) -> None:
    root = make_folder()
    write_mask(root / "SegmentationClass/img_0.png", np.zeros((10, 24)))
    with pytest.raises(
        ValueError, match=r"SegmentationClass/img_0.png is 24x10 pixels, but its image is 24x20"
    ):
        next(iter(open_folder(root).val_dataloader()))


def test_class_list_that_disagrees_with_the_table(make_folder: MakeFolder) -> None:
    module = open_folder(make_folder(csv="id,cat,cow"))
    with pytest.raises(
        ValueError, match=r"labels.csv has the columns .*missing \['dog'\], unknown \['cow'\]"
    ):
        module.dataset("fit")


@pytest.mark.parametrize("row", ["img_0,1", "img_0,1,2", "img_0,1,0,0"])
def test_row_of_the_table_that_is_wrong(make_folder: MakeFolder, row: str) -> None:
    root = make_folder()
    (root / "labels.csv").write_text(f"id,cat,dog\n{row}\n")
    with pytest.raises(ValueError, match=f"labels.csv: the row {row} needs 0 or 1 in each of 2 columns"):
        open_folder(root).dataset("fit")


def test_ids_without_labels(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "labels.csv").write_text("id,cat,dog\nimg_0,1,0\nimg_1,0,1\n")
    with pytest.raises(
        ValueError, match=r"2 ids of the list 'train' have no image labels in csv, the first is img_2"
    ):
        open_folder(root).dataset("fit")


@pytest.mark.parametrize(
    ("file", "what"), [("ImageSets/Segmentation/train.txt", "image id"), ("classes.txt", "class")]
)
def test_empty_and_missing_lists(make_folder: MakeFolder, file: str, what: str) -> None:
    root = make_folder()
    (root / file).write_text("\n \n")
    with pytest.raises(ValueError, match=f"{file} is empty: write one {what}"):
        open_folder(root).dataset("fit")
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} does not exist"):
        open_folder(root).dataset("fit")


def test_real_photos(real_data: Path) -> None:
    augmentation = Augmentation(96, long_side=(96, 160))
    module = FolderDataModule(real_data / "ccp5", augmentation=augmentation, loading=Loading(8))
    assert module.class_names == ("bag", "trousers", "dress", "coat", "skirt")
    assert (len(module.dataset("fit")), len(module.dataset("validate"))) == (480, 120)
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (8, 3, 96, 96)
    from_masks = FolderDataModule(real_data / "ccp5", label_source="masks").dataset("validate")
    from_table = module.dataset("validate")
    for i in range(0, 120, 12):
        assert torch.equal(from_masks[i]["label"], from_table[i]["label"])
        assert from_table[i]["mask"].shape == from_table[i]["image"].shape[1:]


def test_files_that_do_not_exist_show_before_training(make_folder: MakeFolder) -> None:
    module = open_folder(root := make_folder())
    (root / "SegmentationClass" / "img_2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"img_2.png does not exist: .* 1 of 4 have no masks"):
        module.val_dataloader()
    (root / "JPEGImages" / "img_1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"img_1.jpg does not exist: .* 1 of 4 have no images"):
        module.train_dataloader()
    with pytest.raises(FileNotFoundError, match=r"img_1.jpg does not exist: .* 1 of 4 have no images"):
        module.predict_dataloader()


def test_images_without_a_class_are_counted(make_folder: MakeFolder) -> None:
    root = make_folder()
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("img_2,1,0", "img_2,0,0"))
    with pytest.warns(
        UserWarning, match="1 of 4 images on the list 'train' are labelled without a class, the f"
    ):
        open_folder(root).dataset("fit")
    (root / "labels.csv").write_text("id,cat,dog\n" + "".join(f"img_{i},0,0\n" for i in range(4)))
    with pytest.raises(
        ValueError, match="4 of 4 images on the list 'train' are labelled without a class: label"
    ):
        open_folder(root).dataset("fit")


def test_training_images_that_are_scored_are_counted(
    make_folder: MakeFolder, recwarn: pytest.WarningsRecorder
) -> None:
    root = make_folder()
    (root / "ImageSets/Segmentation/train.txt").write_text("img_0\nimg_1\n")
    (root / "ImageSets/Segmentation/train_some.txt").write_text("img_1\n")
    for name in ("train", "train_some"):
        open_folder(root, lists=Lists(val=name)).dataset("validate")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="2 of the 4 ids on the list 'val' are on the list 'train' as well"):
        open_folder(root).dataset("validate")


def test_masks_that_contradict_the_labels_are_warned_of_once(make_folder: MakeFolder) -> None:
    source = open_folder(make_folder(csv="id,dog,cat"), lists=Lists(val="train")).dataset("validate").source
    with pytest.warns(
        UserWarning, match=r"img_0\.png holds the classes \[1\], but the image labels name \[2\]"
    ) as w:
        assert len([source[index] for index in range(4)]) == len(w) + 3


def test_masks_without_a_class_are_warned_of_once(make_folder: MakeFolder) -> None:
    root = make_folder()
    for path in (root / "SegmentationClass").iterdir():
        write_mask(path, np.zeros_like(read_mask(path, 2)))
    source = open_folder(root, label_source="masks").dataset("fit").source
    with pytest.warns(
        UserWarning, match=r"img_0\.png holds no class, only 0 for the background and 255"
    ) as w:
        assert len([source[index] for index in range(4)]) == len(w) + 3


def test_formats_of_photos(make_folder: MakeFolder) -> None:
    root = make_folder()
    photo = root / "JPEGImages" / "img_0.jpg"
    source = open_folder(root).dataset("fit").source
    Image.open(photo).save(photo.with_suffix(".webp"))
    Image.open(photo).save(photo.with_suffix(".bmp"))
    photo.unlink()
    assert source[0]["image"].shape == (20, 24, 3)
    photo.with_suffix(".webp").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"holds img_0\.bmp, but images are read from \.jpg, .*, \.webp: "
    ):
        source[0]


def test_tiny_photos_and_labels_of_nothing_are_warned_of(make_folder: MakeFolder) -> None:
    root = make_folder()
    Image.new("RGB", (1, 1)).save(root / "JPEGImages" / "img_0.jpg")
    for i in range(1, 4):
        write_mask(root / "labels" / f"img_{i}.png", np.full((20, 24 + i), 255))
    write_mask(root / "labels" / "img_0.png", np.zeros((1, 1)))
    dataset = open_folder(root, pseudo_label_dir=root / "labels").dataset("fit")
    with pytest.warns(UserWarning, match=r"the image 'img_0' is 1x1 pixels"):
        dataset[0]
    with pytest.warns(UserWarning, match=r"img_1\.png is 255 at every pixel: nothing is learned"):
        dataset[1]


def test_a_size_of_no_pixel_is_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(ValueError, match=r"^max_size must be at least 1, got 0$"):
        open_folder(make_folder(), max_size=0)
