"""Tiny photos in the folders of each data set, and the command line run in this process."""

import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from fbr_plugin.cli.main import main
from fbr_plugin.data import SyntheticScenes, write_mask

EXAMPLES = Path(__file__).parents[2] / "examples"


def command(*words: object) -> None:
    """Run `fbr-plugin` with these words, as a shell would."""
    with patch.object(sys, "argv", ["fbr-plugin"]):
        main([str(word) for word in words])


def quick(steps: int) -> list[object]:
    """Words that keep a training run short and quiet."""
    switches = ("enable_progress_bar", "enable_model_summary")
    silent = [word for name in switches for word in (f"--trainer.{name}", "false")]
    silent += ["--figures.every_n_steps", "0"]
    return ["--trainer.accelerator", "cpu", "--trainer.max_steps", steps, *silent]


def write_photos(root: Path, num_classes: int = 2, count: int = 6) -> Path:
    """Write photos of a bright square of class 1 or 2 each, of several sizes, with all that belongs to them.

    Image labels are in `labels.csv` and in `cls_labels.npy`, masks in `SegmentationClass` and
    `SegmentationClassAug`; the lists `train`, `train_aug` and `val` hold all photos.
    """
    rng = np.random.default_rng(0)
    names = [f"class_{number}" for number in range(1, num_classes + 1)]
    labels = {}
    for number in range(count):
        name, present = f"2007_{number:06d}", 1 + number % 2
        mask = np.zeros((32, 36 + number), np.uint8)
        mask[8:24, 8:24] = present
        mask[8, 8] = 255
        photo = rng.integers(0, 120, (*mask.shape, 3), dtype=np.uint8)
        photo[mask == present, present] += 120
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(root / "JPEGImages" / f"{name}.jpg")
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            write_mask(root / folder / f"{name}.png", mask)
        labels[name] = np.eye(num_classes, dtype=np.float32)[present - 1]
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name in ("train", "train_aug", "val"):
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(labels))
    (root / "classes.txt").write_text("\n".join(names))
    rows = [",".join([name, *map(str, label.astype(int))]) for name, label in labels.items()]
    (root / "labels.csv").write_text("\n".join([",".join(["id", *names]), *rows]))
    np.save(root / "cls_labels.npy", np.array(labels, dtype=object))
    return root


def write_saliency(root: Path) -> Path:
    """Write the objects of the photos as saliency maps."""
    folder = root / "saliency"
    folder.mkdir()
    for path in (root / "SegmentationClassAug").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask % 255 > 0, 255, 0).astype(np.uint8)).save(folder / path.name)
    return folder


def write_localization(root: Path, count: int = 4) -> Path:
    """Write photos of a bright square each, of two classes in turn, with its box, in the layout `folder`."""
    rng = np.random.default_rng(0)
    names = ("cat", "dog")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        photo = rng.integers(0, 120, (32, 36 + number, 3), dtype=np.uint8)
        photo[8:24, 8:24, number % 2] += 120
        Image.fromarray(photo).save(root / "JPEGImages" / f"{number}.jpg")
        corners = "".join(
            f"<{key}>{value}</{key}>" for key, value in {"xmin": 9, "ymin": 9, "xmax": 24, "ymax": 24}.items()
        )
        xml = f"<object><name>{names[number % 2]}</name><bndbox>{corners}</bndbox></object>"
        (root / "Annotations" / f"{number}.xml").write_text(f"<annotation>{xml}</annotation>")
    for name in ("train", "test"):
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(map(str, range(count))))
    (root / "classes.txt").write_text("\n".join(names))
    return root


def write_scene_labels(folder: Path, count: int, size: int) -> Path:
    """Write the masks of the first scenes, as pseudo labels."""
    scenes = SyntheticScenes(num_images=count, size=size)
    for item in (scenes[index] for index in range(count)):
        write_mask(folder / f"{item['id']}.png", item["mask"])
    return folder


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[int]:
    """A polygon, in COCO's form, of the pixels from (x0, y0) up to and without (x1, y1)."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def write_coco(root: Path, count: int = 4) -> Path:
    """Write photos of a bright square each, a person or a toothbrush in turn, as COCO 2014 is laid out."""
    rng = np.random.default_rng(0)
    for start, folder in ((0, "train2014"), (count, "val2014")):
        images, annotations = [], []
        (root / folder).mkdir(parents=True)
        for number in range(start, start + count):
            photo = rng.integers(0, 120, (32, 36 + number, 3), dtype=np.uint8)
            photo[8:24, 8:24, number % 2] += 120
            name, shape = f"COCO_{folder}_{number:012d}.jpg", {"height": 32, "width": 36 + number}
            Image.fromarray(photo).save(root / folder / name)
            images.append({"id": number, "file_name": name, **shape})
            outline = {"segmentation": [rectangle(8, 8, 24, 24)], "iscrowd": 0}
            annotations.append({"image_id": number, "category_id": (90, 1)[number % 2], **outline})
        (root / "annotations").mkdir(exist_ok=True)
        content = json.dumps({"images": images, "annotations": annotations})
        (root / "annotations" / f"instances_{folder}.json").write_text(content)
    return root


# The colour code as its documentation lists it.
COLOURS = {
    "void": (0, 0, 0),
    "grass": (0, 128, 0),
    "cow": (0, 0, 128),
    "horse": (128, 0, 128),
    "sky": (128, 128, 128),
    "face": (192, 128, 0),
    "road": (128, 64, 128),
    "body": (64, 64, 0),
}


def write_msrc(root: Path) -> Path:
    """Write three images as in MSRC v2's download: a cow, a person, and grass without an object."""
    named = {
        "1_1_s": ["cow cow grass sky", "void horse grass sky"],
        "19_2_s": ["face body road void"],
        "2_3_s": ["grass sky", "horse void"],
    }
    rng = np.random.default_rng(0)
    for name, rows in named.items():
        truth = np.array([[COLOURS[word] for word in row.split()] for row in rows], np.uint8)
        photo = rng.integers(0, 256, truth.shape, dtype=np.uint8)
        for path, pixels in ((f"Images/{name}.bmp", photo), (f"GroundTruth/{name}_GT.bmp", truth)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)
    return root
