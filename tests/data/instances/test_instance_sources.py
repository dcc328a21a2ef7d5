"""Instances in the batches of each data module: true ones, pseudo ones, and none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny import rectangle, write_coco
from PIL import Image

from fbr_plugin.data import (
    Augmentation,
    COCODataModule,
    FolderDataModule,
    Loading,
    SyntheticDataModule,
    eval_transform,
    train_transform,
    write_mask,
)
from fbr_plugin.data.fingerprint import fingerprint
from fbr_plugin.data.instances.files import write_instances
from fbr_plugin.data.transforms import apply_transform, shift_transform

MakeFolder = Callable[..., Path]


def item(*corners: tuple[int, int], size: tuple[int, int] = (40, 60)) -> dict[str, Any]:
    """An image with an object of 10 x 10 white pixels at each corner (y, x), of class 1, 2, ..."""
    image, masks = np.zeros((*size, 3), np.uint8), np.zeros((len(corners), *size), bool)
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + 10, x : x + 10] = True
    image[masks.any(0)] = 255
    labels = 1 + np.arange(len(corners))
    return {"image": image, "instances": {"masks": masks, "labels": labels}}


def write_objects(root: Path, count: int = 4) -> Path:
    """Add to the tiny folder maps of two objects each: one of its class, one of the other class below."""
    for i in range(count):
        mask = np.array(Image.open(root / "SegmentationClass" / f"img_{i}.png"))
        objects = np.where((mask > 0) & (mask < 255), 1, 0).astype(np.uint8)
        mask[10:15, 10:18], objects[10:15, 10:18] = 2 - i % 2, 7
        objects[10, 10:18] = mask[16] = 255
        write_mask(root / "SegmentationClass" / f"img_{i}.png", mask)
        write_mask(root / "SegmentationObject" / f"img_{i}.png", objects)
    return root


def write_file(folder: Path, name: str, masks: Any, labels: list[int], scores: list[float]) -> None:
    """Write the file of an image's instances."""
    numbers = {"labels": torch.tensor(labels, dtype=torch.int64), "scores": torch.tensor(scores)}
    write_instances(folder / f"{name}.json", {"masks": torch.from_numpy(masks), **numbers})


def open_folder(root: Path, **options: Any) -> FolderDataModule:
    return FolderDataModule(root, augmentation=Augmentation(32), loading=Loading(2), **options)


@pytest.mark.parametrize("options", [{"long_side": (30, 80)}, {"rescale": (0.5, 1.5)}, {}], ids=str)
def test_masks_follow_their_image(options: dict[str, Any]) -> None:
    transform, counts = train_transform(Augmentation(32, **options)), set()
    for seed in range(20):
        given = item((5, 5), (25, 40))
        found = apply_transform(transform, given, seed)
        masks, labels, ignore = (found["instances"][key] for key in ("masks", "labels", "ignore"))
        assert masks.dtype == ignore.dtype == torch.bool
        assert masks.shape == (len(labels), 32, 32)
        assert masks.flatten(1).any(1).all()
        bright = found["image"][0] > 1
        assert (masks.any(0) == bright).float().mean() > 0.93
        for mask, label in zip(masks, labels.tolist(), strict=True):
            alone = item((5, 5)) if label == 1 else item((25, 40))
            alone["image"] = given["image"]
            (same,) = apply_transform(transform, alone, seed)["instances"]["masks"]
            assert torch.equal(mask, same)
        counts.add(len(labels))
    assert {1, 2} <= counts, "some crops leave an object out, which is dropped with its label"


@pytest.mark.parametrize("transform", [train_transform(Augmentation(48)), shift_transform(40, 4)])
def test_no_instance_and_the_same_draws_with_and_without(transform: Any) -> None:
    given = item(size=(40, 40))
    given["image"] = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for seed in range(5):
        found = apply_transform(transform, given, seed)
        side = found["image"].shape[-1]
        assert found["instances"]["masks"].shape == (0, side, side)
        assert found["instances"]["labels"].shape == (0,)
        plain = apply_transform(transform, {"image": given["image"]}, seed)
        assert torch.equal(found["image"], plain["image"])


def test_padding_is_ignored_and_crowds_stay_crowds() -> None:
    given = item((0, 0), (20, 20))
    given["instances"] |= {"iscrowd": np.array([False, True]), "ignore": np.zeros((40, 60), bool)}
    found = apply_transform(train_transform(Augmentation(80)), given, 0)["instances"]
    assert found["ignore"].sum() == 80 * 80 - 40 * 60
    assert found["masks"].sum((1, 2)).tolist() == [100, 100]
    assert found["iscrowd"].tolist() == [False, True]
    assert not (found["masks"] & found["ignore"]).any()


def test_scenes() -> None:
    options = {"num_images": 12, "size": 32, "loading": Loading(4, eval_batch_size=6)}
    for stages, (training, testing) in {"none": (0, 0), "eval": (0, 1), "all": (1, 1)}.items():
        data = SyntheticDataModule(instances=stages, **options)
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        has = [int("instances" in next(iter(loader))) for loader in loaders]
        assert has == [training, testing, testing]
        assert "instances" not in next(iter(data.predict_dataloader()))
    seen = 0
    for batch in data.test_dataloader():
        for mask, found in zip(batch["mask"], batch["instances"], strict=True):
            known = (mask > 0) & (mask < 255)
            assert torch.equal(found["masks"].sum(0), known.long())
            painted = (found["masks"] * found["labels"][:, None, None]).sum(0)
            assert torch.equal(painted, mask * known)
            seen += len(found["labels"])
    assert seen == sum(len(np.unique(scene.instances)) - 1 for scene in data.train_scenes.scenes)
    assert len(next(iter(data.train_dataloader()))["instances"]) == 4
    with pytest.raises(ValueError, match="instances must be one of 'none', 'eval', 'all', got 'true'"):
        SyntheticDataModule(instances="true")


def test_objects_of_a_folder(make_folder: MakeFolder) -> None:
    data = open_folder(write_objects(make_folder()), instances="all", max_size=16)
    for i, batch in enumerate(data.test_dataloader()):
        (found,), size = batch["instances"], (20, 24 + i)
        assert batch["image"].shape[-1] == 16
        assert found["masks"].shape == (2, *size), "at the size on disk, also where images are shrunk"
        assert found["masks"].sum((1, 2)).tolist() == [24, 32]
        assert found["labels"].tolist() == [1 + i % 2, 2 - i % 2]
        assert found["ignore"].sum() == 1 + 8 + size[1]
    batch = next(iter(data.train_dataloader()))
    assert all(each["masks"].shape[1:] == batch["image"].shape[2:] for each in batch["instances"])
    assert "instances" not in next(iter(data.predict_dataloader()))
    assert "instances" in fingerprint(data.source("test"))
    assert "instances" not in fingerprint(open_folder(data.root).source("test"))


def test_without_the_maps_of_objects(make_folder: MakeFolder) -> None:
    root = make_folder()
    with pytest.raises(FileNotFoundError, match=r"object_dir=\S*SegmentationObject does not exist: write"):
        open_folder(root, instances="eval").test_dataloader()
    next(iter(open_folder(root, instances="eval").predict_dataloader()))
    write_objects(root, count=3)
    with pytest.raises(FileNotFoundError, match=r"1 of 4 ids have no map of objects ID.png .*: img_3; make"):
        open_folder(root, instances="eval").test_dataloader()


def test_maps_of_objects_that_do_not_fit(make_folder: MakeFolder) -> None:
    root = write_objects(make_folder())
    write_mask(root / "SegmentationObject/img_0.png", np.ones((10, 24)))
    with pytest.raises(
        ValueError, match=r"SegmentationObject/img_0.png is 24x10 pixels, but \S+img_0.png is 24x20"
    ):
        next(iter(open_folder(root, instances="eval").test_dataloader()))
    objects = np.zeros((20, 24))
    objects[16, 3:5] = 5  # where the mask of classes is 255
    write_mask(root / "SegmentationObject/img_0.png", objects)
    message = r"SegmentationObject/img_0.png: the pixels of object 5 are of no class in \S+Class/img_0.png"
    with pytest.raises(ValueError, match=message):
        next(iter(open_folder(root, instances="eval").test_dataloader()))


def test_pseudo_instances_take_the_place_of_true_ones_in_training(make_folder: MakeFolder) -> None:
    root = write_objects(make_folder())
    folder, mask = root / "pseudo", np.zeros((3, 20, 32), bool)
    mask[0, 2:8, 2:8] = mask[1, 12:18, 12:18] = mask[2, 4:6, 12:14] = True
    for i in range(4):
        masks = mask[:, :, : 24 + i] if i else np.zeros((0, 20, 24), bool)
        write_file(folder, f"img_{i}", masks, [2, 1, 1][: len(masks)], [0.9, 0.3, 0][: len(masks)])
    data = open_folder(root, instances="all", pseudo_instance_dir=folder)
    batches = list(data.train_dataloader())
    found = {name: each for b in batches for name, each in zip(b["id"], b["instances"], strict=True)}
    assert found["img_0"]["labels"].tolist() == []
    for i in range(1, 4):  # without the one whose score is 0
        assert found[f"img_{i}"]["labels"].tolist() == [2, 1]
        assert found[f"img_{i}"]["masks"].sum((1, 2)).tolist() == [36, 36]
    true = [batch["instances"][0]["labels"].tolist() for batch in data.test_dataloader()]
    assert true == 2 * [[1, 2], [2, 1]]
    scenes = SyntheticDataModule(num_images=4, size=32, loading=Loading(4), pseudo_instance_dir=folder)
    with pytest.raises(
        FileNotFoundError, match=r"4 of 4 ids have no file of instances ID.json .*: scene_000000"
    ):
        scenes.train_dataloader()
    for name in scenes.train_scenes.ids:
        write_file(folder, name, mask[:2].repeat(2, 1)[:, :32], [5, 1], [1, 1])
    (batch,) = scenes.train_dataloader()
    assert all(set(each["labels"].tolist()) <= {1, 5} for each in batch["instances"])
    assert "instances" not in next(iter(scenes.val_dataloader()))


def test_pseudo_instances_that_do_not_fit(make_folder: MakeFolder) -> None:
    root = make_folder()
    folder, masks = root / "pseudo", np.ones((1, 20, 32), bool)
    data = open_folder(root, pseudo_instance_dir=folder)
    with pytest.raises(
        FileNotFoundError, match=r"pseudo_instance_dir=\S*pseudo does not exist: write one file"
    ):
        data.train_dataloader()
    for i in range(4):
        write_file(folder, f"img_{i}", masks[..., : 24 + i], [1], [0.0])
    with pytest.raises(
        ValueError, match="not one of the 4 training images has an instance of a score above 0"
    ):
        data.train_dataloader()
    for i in range(4):
        write_file(folder, f"img_{i}", masks[:, :10], [1], [0.5])
    with pytest.raises(ValueError, match=r"img_\d.json is of 32x10 pixels, but the image 'img_\d' of 2\dx20"):
        list(data.train_dataloader())
    write_file(folder, "img_0", masks[..., :24], [3], [0.5])
    with pytest.raises(ValueError, match=r"img_0.json: instance 1 is of class 3, but the classes are 1 to 2"):
        data.train_dataloader()


def test_no_true_instance_at_all(make_folder: MakeFolder) -> None:
    root = write_objects(make_folder())
    for i in range(4):
        write_mask(root / f"SegmentationObject/img_{i}.png", np.zeros((20, 24 + i)))
    data = open_folder(root, instances="all")
    with pytest.raises(ValueError, match="not one of the 4 training images has an instance"):
        data.train_dataloader()
    assert [len(batch["instances"][0]["labels"]) for batch in data.test_dataloader()] == [0] * 4


def test_coco(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    path = root / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    runs = {"size": [32, 41], "counts": [32 * 30, 32 * 11]}
    content["annotations"].append({"image_id": 5, "category_id": 1, "iscrowd": 1, "segmentation": runs})
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != 6]
    path.write_text(json.dumps(content))
    data = COCODataModule(root, instances="all", augmentation=Augmentation(32), loading=Loading(4))
    found = [batch["instances"][0] for batch in data.test_dataloader()]
    assert [each["labels"].tolist() for each in found] == [[80], [1, 1], [], [1]]
    assert [each["iscrowd"].tolist() for each in found] == [[False], [False, True], [], [False]]
    assert [tuple(each["masks"].shape) for each in found] == [
        (n, 32, 40 + i) for i, n in enumerate((1, 2, 0, 1))
    ]
    assert [each["masks"].sum((1, 2)).tolist() for each in found] == [[256], [256, 352], [], [256]]
    assert len(next(iter(data.train_dataloader()))["instances"]) == 4
    content["annotations"][0]["segmentation"] = [rectangle(8, 8, 24, 24)[:4]]
    path.write_text(json.dumps(content))
    broken = COCODataModule(root, instances="eval", mask_dir="none", loading=Loading(4))
    with pytest.raises(ValueError, match="segmentation of an object of COCO_val2014_000000000004 cannot be"):
        next(iter(broken.test_dataloader()))
    content["images"] = content["images"][1:]
    content["annotations"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"instances_val2014.json lacks 1 images of the list, the first is COCO_"
    ):
        COCODataModule(root, instances="eval", label_source="none").test_dataloader()


@pytest.mark.slow
def test_objects_of_real_photos(real_data: Path) -> None:
    data = FolderDataModule(real_data / "msrc", instances="eval")
    counts = []
    for batch in data.test_dataloader():
        (found,) = batch["instances"]
        mask = batch["mask"][0]
        assert torch.equal(found["masks"].any(0), (mask > 0) & (mask < 255))
        for each, label in zip(found["masks"], found["labels"], strict=True):
            assert (mask[each] == label).all()
        counts.append(len(found["labels"]))
    assert len(counts) == 326
    assert min(counts) >= 1


def test_evaluation_changes_no_instance() -> None:
    data = SyntheticDataModule(num_images=2, size=32, instances="eval")
    dataset = data.dataset("test")
    dataset.transform = eval_transform(16)
    raw = dataset.source[1]["instances"]
    assert dataset[1]["image"].shape == (3, 16, 16)
    assert np.array_equal(dataset[1]["instances"]["masks"], raw["masks"])
    assert np.array_equal(dataset[1]["instances"]["labels"], raw["labels"])
