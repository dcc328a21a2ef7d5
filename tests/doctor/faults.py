"""Faults that are planted in a sound data set of photos, and what the doctor says about each."""

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import NamedTuple

import numpy as np
from PIL import Image

from fbr_plugin.data.readers.images import voc_palette

LISTS = "ImageSets/Segmentation"


class Fault(NamedTuple):
    """A fault: how it is planted in a folder of photos, and the finding: severity, text and number of cases.

    The fault causes `others` more findings.
    """

    plant: Callable[[Path], object]
    severity: str
    what: str
    cases: int = 1
    others: int = 0


def listed(old: str, new: str, name: str = "train") -> Callable[[Path], object]:
    """Replace a text in a list."""
    return edited(f"{LISTS}/{name}.txt", old, new)


def edited(file: str, old: str, new: str) -> Callable[[Path], object]:
    """Replace a text in a file."""

    def plant(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return plant


def renamed(old: str, new: str) -> Callable[[Path], object]:
    """Rename a file."""
    return lambda root: (root / old).rename(root / new)


def removed(file: str) -> Callable[[Path], object]:
    """Remove a file."""
    return lambda root: (root / file).unlink()


def photo(change: Callable[[Image.Image], Image.Image], name: str = "00.jpg", **options: object):
    """Change a photo, and save it with options of Pillow."""

    def plant(root: Path) -> None:
        path = root / "JPEGImages" / name
        change(Image.open(root / "JPEGImages" / "00.jpg")).save(path, **options)
        if name != "00.jpg":
            (root / "JPEGImages" / "00.jpg").unlink()

    return plant


def mask(change: Callable[[np.ndarray], Image.Image], names: str = "0") -> Callable[[Path], object]:
    """Change the numbers [H, W] of masks."""

    def plant(root: Path) -> None:
        for name in names:
            path = root / "SegmentationClass" / f"0{name}.png"
            change(np.array(Image.open(path))).save(path)

    return plant


def truncated(file: str) -> Callable[[Path], object]:
    """Keep half of a file."""

    def plant(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) // 2])

    return plant


def grey(numbers: np.ndarray) -> Image.Image:
    """A grey image of these numbers."""
    return Image.fromarray(np.asarray(numbers, np.uint8))


def coloured(numbers: np.ndarray) -> Image.Image:
    """An image in VOC's colours."""
    return Image.fromarray(voc_palette()[numbers])


def reduced(numbers: np.ndarray) -> Image.Image:
    """An image whose palette has VOC's colours in the order of their frequency."""
    order = np.argsort(-np.bincount(numbers.ravel(), minlength=256), kind="stable")
    image = grey(np.argsort(order)[numbers])
    image.putpalette(voc_palette()[order].ravel().tolist())
    return image


def turned(image: Image.Image) -> Image.Image:
    """The image with EXIF data by which it is to be turned."""
    image.getexif()[0x0112] = 6
    return image


def noisy(image: Image.Image) -> Image.Image:
    """The image, slightly changed."""
    pixels = np.asarray(image, np.int64)
    return Image.fromarray(
        np.clip(pixels + np.random.default_rng(1).integers(-3, 4, pixels.shape), 0, 255).astype(np.uint8)
    )


def copied(old: str, new: str) -> Callable[[Path], object]:
    """Copy a file."""
    return lambda root: copyfile(root / old, root / new)


def encoded(file: str, old: str, new: str, encoding: str) -> Callable[[Path], object]:
    """Replace a text in a file, which is saved in another encoding."""

    def plant(root: Path) -> None:
        (root / file).write_bytes((root / file).read_text().replace(old, new).encode(encoding))

    return plant


def near_copy(root: Path) -> None:
    """Save a photo of train anew as one of val."""
    noisy(Image.open(root / "JPEGImages/00.jpg")).save(root / "JPEGImages/04.jpg", quality=95)


JPEG, MASK = "JPEGImages", "SegmentationClass"

FAULTS = {
    "list missing": Fault(removed(f"{LISTS}/val.txt"), "error", "a list is missing"),
    "list empty": Fault(
        lambda root: (root / LISTS / "val.txt").write_text("\n"), "error", "a list is empty", others=1
    ),
    "list encoding": Fault(
        encoded(f"{LISTS}/train.txt", "00", "00\nä", "utf-16"), "error", "text that is not UTF-8", others=1
    ),
    "id twice": Fault(listed("00", "00\n00"), "warning", "ids listed twice in train.txt"),
    "empty line": Fault(listed("00", "\n\n00"), "note", "empty lines in a list", 2),
    "id with suffix": Fault(listed("00", "00.jpg"), "note", "ids with a suffix in train.txt"),
    "id with spaces": Fault(listed("00", "00 cat"), "error", "ids with spaces in train.txt"),
    "ids of one case": Fault(
        listed("00", "00\na1\nA1"), "warning", "ids that differ in case alone in train.txt", 2, others=1
    ),
    "overlap": Fault(listed("00", "00\n04"), "warning", "ids both in train and in val"),
    "unlisted photo": Fault(listed("00\n", ""), "note", "photos in no list"),
    "photo missing": Fault(removed(f"{JPEG}/00.jpg"), "error", "ids without a photo"),
    "suffix in mixed case": Fault(
        renamed(f"{JPEG}/00.jpg", f"{JPEG}/00.Jpg"),
        "error",
        "photos whose suffix mixes small and capital letters",
    ),
    "photo of another format": Fault(
        photo(lambda image: image, "00.bmp"), "error", "photos of a format that is not read"
    ),
    "photo in two files": Fault(
        copied(f"{JPEG}/00.jpg", f"{JPEG}/00.JPG"), "warning", "photos of one id in several files"
    ),
    "photo truncated": Fault(truncated(f"{JPEG}/00.jpg"), "error", "photos that cannot be read"),
    "PNG called JPEG": Fault(
        photo(lambda image: image, format="PNG"), "warning", "photos that are not what their suffix says"
    ),
    "EXIF": Fault(
        lambda root: photo(lambda image: image, exif=turned(Image.new("RGB", (1, 1))).getexif())(root),
        "error",
        "masks drawn on photos that were not turned upright",
        others=1,
    ),
    "grey photo": Fault(photo(lambda image: image.convert("L")), "note", "grey photos"),
    "CMYK photo": Fault(photo(lambda image: image.convert("CMYK")), "warning", "CMYK photos"),
    "16-bit photo": Fault(
        photo(lambda image: Image.fromarray(np.asarray(image.convert("L"), np.uint16)), "00.png"),
        "warning",
        "photos of more than 8 bits",
    ),
    "transparent photo": Fault(
        photo(lambda image: (image.putalpha(128), image)[1], "00.png"), "warning", "transparent photos"
    ),
    "copy of a photo": Fault(
        copied(f"{JPEG}/00.jpg", f"{JPEG}/04.jpg"), "warning", "photos that are the same under several ids"
    ),
    "near copy of a photo": Fault(near_copy, "warning", "photos of train that are nearly the same in val"),
    "mask missing": Fault(removed(f"{MASK}/04.png"), "error", "ids without a mask in SegmentationClass"),
    "mask in capitals": Fault(
        renamed(f"{MASK}/04.png", f"{MASK}/04.PNG"), "error", "masks with another name than ID.png"
    ),
    "mask of no photo": Fault(copied(f"{MASK}/04.png", f"{MASK}/99.png"), "note", "masks of no photo"),
    "mask truncated": Fault(truncated(f"{MASK}/00.png"), "error", "masks that cannot be read"),
    "mask of another size": Fault(
        mask(lambda numbers: grey(numbers[1:])), "error", "mask and photo differ in size"
    ),
    "mask in colours": Fault(mask(coloured), "error", "masks that hold colours, not class numbers"),
    "mask in grey colours": Fault(
        mask(lambda numbers: coloured(numbers).convert("L")),
        "error",
        "masks whose values are VOC's colours in grey",
    ),
    "mask of reduced colours": Fault(
        mask(reduced, "1"), "error", "masks whose palette has VOC's colours in another order"
    ),
    "mask beyond the classes": Fault(
        mask(lambda numbers: grey(np.where(numbers == 1, 7, numbers))),
        "error",
        "masks with values beyond the classes",
    ),
    "mask empty": Fault(mask(lambda numbers: grey(0 * numbers)), "warning", "masks without an object"),
    "mask ignored": Fault(
        mask(lambda numbers: grey(0 * numbers + 255)), "warning", "masks that are 255 everywhere"
    ),
    "label not in mask": Fault(
        edited("labels.csv", "00,1,0", "00,1,1"),
        "warning",
        "classes in the image labels, but not in the mask",
    ),
    "mask not in label": Fault(
        edited("labels.csv", "00,1,0", "00,0,1"),
        "warning",
        "classes in the mask, but not in the image labels",
        others=1,
    ),
    "classes swapped": Fault(
        edited("classes.txt", "cat\ndog", "dog\ncat"),
        "error",
        "classes in another order in masks than in the list of classes",
        2,
    ),
    "class not in the table": Fault(
        edited("labels.csv", "id,cat", "id,lion"),
        "error",
        "columns of labels.csv that disagree with the list of classes",
        2,
    ),
    "class never seen": Fault(
        lambda root: [
            edited("classes.txt", "dog", "dog\nlion")(root),
            (root / "labels.csv").write_text(
                "id,cat,dog,lion\n" + "".join(f"0{n},{1 - n % 2},{n % 2},0\n" for n in range(6))
            ),
        ],
        "warning",
        "classes in no training image",
    ),
    "label missing": Fault(edited("labels.csv", "00,1,0\n", ""), "error", "ids without image labels"),
    "label without class": Fault(
        edited("labels.csv", "00,1,0", "00,0,0"), "warning", "image labels without a class", others=1
    ),
    "label not 0 or 1": Fault(
        edited("labels.csv", "00,1,0", "00,2,0"),
        "error",
        "rows of labels.csv that are not 0 or 1 for each class",
    ),
    "label twice": Fault(
        edited("labels.csv", "00,1,0", "00,1,0\n00,0,1"),
        "error",
        "ids with two different rows in labels.csv",
        others=2,
    ),
    "labels without zeros": Fault(
        edited("labels.csv", "00,1,0\n01,", "00,1,0\n1,"),
        "error",
        "keys in labels.csv that are spelled unlike the ids",
    ),
}
