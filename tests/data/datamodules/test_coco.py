"""COCO 2014, drawn small: its masks are rectangles, whose pixels are known without any rasteriser."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from helpers.tiny import rectangle
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as tools

from fbr_plugin.data import Augmentation, COCODataModule, Lists, Loading, read_mask, write_mask
from fbr_plugin.data.readers import images, instances
from fbr_plugin.data.readers.coco_categories import COCO_CATEGORIES
from fbr_plugin.data.readers.instances import labels_from_instances, rasterise_instances

PERSON, CAR, STOP_SIGN, TOOTHBRUSH = 1, 3, 13, 90  # classes 1, 3, 12 and 80: the categories have gaps
SIZES = {9: (20, 24), 25: (18, 30), 30: (21, 22), 581929: (16, 20)}
NAMES = [f"COCO_train2014_{number:012d}" for number in SIZES]
VAL = "COCO_val2014_000000000042"


def box(shape: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> NDArray[np.uint8]:
    """A mask of the rectangle that `rectangle` outlines."""
    mask = np.zeros(shape, np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return mask


def run_lengths(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """COCO's uncompressed code: the lengths of the runs of 0 and 1 down the columns, one of 0 first."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts, value = [*counts, 0], pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask: NDArray[np.uint8]) -> dict[str, Any]:
    code = tools.encode(mask)
    return {"size": code["size"], "counts": code["counts"].decode()}


def drawn() -> dict[str, Any]:
    """Annotations of the four images, in no order."""
    objects = [
        (9, PERSON, [rectangle(2, 3, 10, 12)], 0),
        (25, PERSON, compressed(box(SIZES[25], 0, 0, 30, 18)), 1),
        (581929, CAR, run_lengths(box(SIZES[581929], 0, 4, 20, 9)), 0),
        (9, CAR, run_lengths(box(SIZES[9], 0, 0, 24, 20)), 1),
        (9, STOP_SIGN, [rectangle(6, 8, 16, 18)], 0),
        (25, TOOTHBRUSH, [rectangle(1, 1, 5, 6), rectangle(10, 2, 30, 4)], 0),
        (581929, TOOTHBRUSH, compressed(box(SIZES[581929], 10, 0, 12, 16)), 0),
        (581929, PERSON, [rectangle(0, 8, 20, 10)], 0),
    ]
    keys = ("image_id", "category_id", "segmentation", "iscrowd")
    return {
        "images": [
            {"id": number, "file_name": f"{name}.jpg", "height": height, "width": width}
            for (number, (height, width)), name in zip(SIZES.items(), NAMES, strict=True)
        ],
        "annotations": [dict(zip(keys, each, strict=True)) for each in objects],
    }


def truth() -> dict[str, NDArray[np.uint8]]:
    """The masks, painted in the order of the annotations."""
    masks = {name: np.zeros(shape, np.uint8) for name, shape in zip(NAMES, SIZES.values(), strict=True)}
    first, second, _, fourth = (masks[name] for name in NAMES)
    first[3:12, 2:10] = 1
    first[8:18, 6:16] = 12
    second[1:6, 1:5] = second[2:4, 10:30] = 80
    fourth[4:9] = 3
    fourth[:, 10:12] = 80
    fourth[8:10] = 1
    return masks


LABELS = {NAMES[0]: [1, 12], NAMES[1]: [80], NAMES[2]: [], NAMES[3]: [1, 3, 80]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The four images for training, one for validation, and the annotations of both."""
    rng = np.random.default_rng(0)
    for name, shape in zip([*NAMES, VAL], [*SIZES.values(), (12, 14)], strict=True):
        path = tmp_path / name.split("_")[1] / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2014.json").write_text(json.dumps(drawn()))
    val = {
        "images": [{"id": 42, "file_name": f"{VAL}.jpg", "height": 12, "width": 14}],
        "annotations": [
            {"image_id": 42, "category_id": CAR, "segmentation": [rectangle(0, 0, 7, 12)], "iscrowd": 0}
        ],
    }
    (tmp_path / "annotations/instances_val2014.json").write_text(json.dumps(val))
    return tmp_path


def open_coco(root: Path, **options: Any) -> COCODataModule:
    return COCODataModule(root, **{"augmentation": Augmentation(16), "loading": Loading(2), **options})


def train_json(root: Path) -> Path:
    return root / "annotations" / "instances_train2014.json"


def present(label: Any) -> list[int]:
    return (np.flatnonzero(np.asarray(label)) + 1).tolist()


def test_the_80_classes() -> None:
    assert len({*COCO_CATEGORIES.values()}) == len(COCO_CATEGORIES) == 80
    assert [*COCO_CATEGORIES] == sorted(COCO_CATEGORIES)
    assert (COCO_CATEGORIES[1], COCO_CATEGORIES[44], COCO_CATEGORIES[90]) == (
        "person",
        "bottle",
        "toothbrush",
    )


def test_masks_are_the_rectangles(root: Path) -> None:
    assert rasterise_instances(train_json(root), root / "masks") == 4
    for name, mask in truth().items():
        assert np.array_equal(read_mask(root / "masks" / f"{name}.png", 80), mask)
    assert Image.open(root / "masks" / f"{NAMES[0]}.png").mode == "P"


def test_a_cut_call_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "masks"
    with monkeypatch.context() as patch:
        written: list[Path] = []

        def fail_at_third(path: Path, mask: NDArray[np.uint8]) -> None:
            written.append(path)
            if len(written) == 3:
                raise OSError("disk full")
            images.write_mask(path, mask)

        patch.setattr(instances, "write_mask", fail_at_third)
        with pytest.raises(OSError, match="disk full"):
            rasterise_instances(train_json(root), folder)
    write_mask(folder / f"{NAMES[0]}.png", np.full((2, 2), 7))  # not looked at again
    (folder / f".{NAMES[2]}.png.123").write_bytes(b"half of it")
    assert rasterise_instances(train_json(root), folder) == 2
    assert read_mask(folder / f"{NAMES[0]}.png", 80).tolist() == [[7, 7], [7, 7]]
    for name in NAMES[1:]:
        assert np.array_equal(read_mask(folder / f"{name}.png", 80), truth()[name])
    assert rasterise_instances(train_json(root), folder) == 0


def test_masks_of_some_images_under_any_name(root: Path) -> None:
    write_mask(root / "masks" / "000000000025.png", np.zeros((18, 30)))
    assert rasterise_instances(train_json(root), root / "masks", NAMES[:2]) == 1
    assert sorted(path.stem for path in (root / "masks").iterdir()) == ["000000000025", NAMES[0]]
    with pytest.raises(ValueError, match=r"train2014.json lacks 1 of 2 images, the first is nobody"):
        rasterise_instances(train_json(root), root / "masks", [NAMES[0], "nobody"])


def test_labels_without_crowds(root: Path) -> None:
    assert {name: present(label) for name, label in labels_from_instances(train_json(root)).items()} == LABELS


@pytest.mark.parametrize(
    "lines",
    [
        ["30", "9", "581929"],
        ["000000000030", "000000000009", "000000581929"],
        [NAMES[2], NAMES[0], NAMES[3]],
        [f"/train2014/{NAMES[2]}.jpg /masks/{NAMES[2]}.png", f"{NAMES[0]}.jpg", "581929"],
    ],
    ids=["numbers", "padded", "names", "mixed"],
)
def test_lists_of_every_style(root: Path, lines: list[str]) -> None:
    (root / "lists").mkdir()
    (root / "lists" / "train_id.txt").write_text("\n".join(lines))
    expected = [NAMES[2], NAMES[0], NAMES[3]]
    for name in ("lists/train_id", "lists/train_id.txt", str(root / "lists" / "train_id.txt")):
        module = open_coco(root, lists=Lists(name))
        assert module.ids("fit") == module.ids("predict") == expected
    batches = list(module.predict_dataloader())
    assert [batch["id"] for batch in batches] == [[name] for name in expected]
    assert [present(batch["label"][0]) for batch in batches] == [LABELS[name] for name in expected]
    assert [tuple(batch["image"].shape[2:]) for batch in batches] == [SIZES[30], SIZES[9], SIZES[581929]]


def test_all_images_and_masks_made_for_validation(root: Path) -> None:
    module = open_coco(root)
    assert (module.num_classes, module.class_names[79]) == (80, "toothbrush")
    assert module.ids("fit") == NAMES
    module.prepare_data()
    assert [path.name for path in (root / "SegmentationClass").iterdir()] == [f"{VAL}.png"]
    (batch,) = module.val_dataloader()
    assert batch["id"] == [VAL]
    assert np.array_equal(batch["mask"][0], 3 * box((12, 14), 0, 0, 7, 12))
    assert present(batch["label"][0]) == [3]
    assert "mask" not in next(iter(module.predict_dataloader()))
    assert next(iter(module.train_dataloader()))["image"].shape == (2, 3, 16, 16)


def test_masks_of_the_other_name_and_pseudo_labels(root: Path) -> None:
    (root / "annotations").rename(root / "elsewhere")
    write_mask(root / "png" / "000000000042.png", np.full((12, 14), 5))
    module = open_coco(root, mask_dir="png", label_source="none", pseudo_label_dir=root / "png")
    module.prepare_data()  # without annotations it makes nothing, and nothing is missing
    assert [path.name for path in (root / "png").iterdir()] == ["000000000042.png"]
    (batch,) = module.val_dataloader()
    assert batch["mask"].unique().tolist() == batch["pseudo_label"].unique().tolist() == [5]


@pytest.mark.parametrize("spell", [int, str, lambda n: f"{n:012d}", lambda n: f"COCO_train2014_{n:012d}.jpg"])
def test_labels_from_a_pickle_with_every_kind_of_key(root: Path, spell: Any) -> None:
    rows = {spell(number): np.eye(80)[number % 80] for number in SIZES}
    np.save(root / "cls_labels_coco.npy", np.array(rows, dtype=object))
    source = open_coco(root, label_source="npy").source("fit")
    assert [present(source.labels[name]) for name in NAMES] == [[1 + number % 80] for number in SIZES]
    with pytest.raises(ValueError, match=rf"1 ids of the list 'val2014' have no image labels in npy.*{VAL}"):
        open_coco(root, label_source="npy").source("validate")


def test_masks_of_a_calibration_list_are_made(root: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("9\n000000000030")
    module = open_coco(root)
    module.calibrate = str(few)
    names = [f"COCO_train2014_{number:012d}" for number in (9, 30)]
    assert module.calibration().source.ids == names  # that masks can be made is enough for a plan
    assert not module.mask_dir.exists()
    module.prepare_data()
    assert {*names} < {path.stem for path in module.mask_dir.iterdir()}
    assert [bool(item["mask"].any()) for item in module.calibration()] == [
        bool(LABELS[name]) for name in names
    ]
    (root / "annotations" / "instances_train2014.json").unlink()
    (module.mask_dir / f"{names[0]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=f"1 images of the .* no mask, the first is {names[0]}"):
        module.calibration()


def test_labels_from_masks_are_made_first(root: Path) -> None:
    module = open_coco(root, label_source="masks")
    module.prepare_data()
    assert len(list((root / "SegmentationClass").iterdir())) == 5
    assert {b["id"][0]: present(b["label"][0]) for b in module.predict_dataloader()} == LABELS
    (root / "annotations/instances_val2014.json").unlink()
    (root / "SegmentationClass" / f"{VAL}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"instances_val2014.json does not exist: unpack COCO's"):
        module.prepare_data()


def test_only_what_is_there_is_prepared(root: Path) -> None:
    for path in (root / "val2014").iterdir():
        path.unlink()
    module = open_coco(root)
    module.prepare_data()
    assert not (root / "SegmentationClass").exists()
    with pytest.raises(FileNotFoundError, match=r"val2014 holds no image COCO_val2014_\*.jpg"):
        module.val_dataloader()


def test_prediction_makes_no_masks(root: Path) -> None:
    class Names(pl.LightningModule):
        def predict_step(self, batch: dict[str, Any], batch_idx: int) -> list[str]:
            return batch["id"]

    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", **quiet)
    assert trainer.predict(Names(), open_coco(root)) == [[name] for name in NAMES]
    assert not (root / "SegmentationClass").exists()
    trainer.predict(Names(), open_coco(root, label_source="masks"))
    assert len(list((root / "SegmentationClass").iterdir())) == 5


def test_lists_that_do_not_fit(root: Path) -> None:
    path = root / "train.txt"
    module = open_coco(root, lists=Lists("train"))
    with pytest.raises(FileNotFoundError, match=r"train.txt does not exist"):
        module.ids("fit")
    path.write_text("9\n77\n78\n")
    with pytest.raises(
        FileNotFoundError, match=r"2 of the 3 numbers in .*train.txt are of no image in .*, the first is 77"
    ):
        module.ids("fit")
    path.write_text("9\n2007_000032\n")
    with pytest.raises(ValueError, match=r"train.txt holds '2007_000032': images of COCO 2014 are named by"):
        module.ids("fit")
    path.write_text("COCO_train2014_000000000077\n")
    with pytest.raises(ValueError, match=r"1 ids of the list 'train' have no image labels in json"):
        module.source("fit")
    with pytest.raises(FileNotFoundError, match=r"COCO_train2014_000000000077.jpg does not exist"):
        open_coco(root, lists=Lists("train"), label_source="none").predict_dataloader()


def test_images_of_another_size_and_masks_of_other_classes(root: Path) -> None:
    module = open_coco(root, lists=Lists(val="train2014"))
    module.prepare_data()
    Image.new("RGB", (25, 20)).save(root / "train2014" / f"{NAMES[0]}.jpg")
    with pytest.raises(ValueError, match=rf"{NAMES[0]}.png is 24x20 pixels, but its image is 25x20"):
        next(iter(module.val_dataloader()))
    write_mask(root / "SegmentationClass" / f"{NAMES[0]}.png", np.full((20, 25), 90))
    with pytest.raises(ValueError, match=r"holds the value 90, but a mask of 80 classes"):
        next(iter(module.val_dataloader()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, r"does not hold COCO's instances \(TypeError"),
        (
            {"images": [{"id": 9, "file_name": "a.jpg"}]},
            r"does not hold COCO's instances \(KeyError: 'height'",
        ),
        ({"category_id": 12}, r"annotation 0 is of category 12, which is not one of COCO's 80: \[1, 2, 3"),
        ({"image_id": 77}, r"annotation 0 belongs to the image 77, which the file does not list"),
        (
            {"segmentation": [[1, 1, 5, 5]]},
            rf"an object of {NAMES[0]} cannot be rasterised .*polygon of 4 numbers",
        ),
        ({"segmentation": []}, r"cannot be rasterised \(IndexError"),
        ({"segmentation": {"size": [24, 20], "counts": [480]}}, r"do not fill an image of 24x20 pixels"),
        ({"segmentation": {"size": [20, 24], "counts": [0, 9999]}}, r"do not fill an image of 24x20 pixels"),
        ({"segmentation": "a polygon"}, r"cannot be rasterised \(TypeError"),
    ],
)
def test_annotations_that_are_wrong(root: Path, change: dict[str, Any], message: str) -> None:
    content = drawn()
    (content if change.keys() & content.keys() else content["annotations"][0]).update(change)
    train_json(root).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        rasterise_instances(train_json(root), root / "masks")
    assert str(train_json(root)) in str(caught.value)
    assert not list(root.glob("masks/*"))


def test_files_that_are_no_annotations(root: Path) -> None:
    path = train_json(root)
    for text, message in [
        ('{"images": [', "instances_train2014.json is not valid JSON"),
        ("[1, 2]", r"does not hold COCO's instances .*name instances_train2014.json or"),
        ('{"images": []}', r"does not hold COCO's instances \(KeyError: 'annotations'\)"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            labels_from_instances(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"instances_train2014.json does not exist: unpack COCO's"):
        open_coco(root).source("fit")


def test_pycocotools_is_asked_for_where_it_is_needed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert len(open_coco(root).source("fit")) == 4
    with pytest.raises(ImportError, match=r"need pycocotools: pip install 'fbr_plugin\[coco\]'"):
        rasterise_instances(train_json(root), root / "masks")
