"""Faults that are planted together in one copy of VOC's lists, labels and masks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from doctor.faults import LISTS, coloured, grey, reduced, removed, renamed, truncated
from doctor.planted import EXTRA, LACKS, Plant, Planted, label, line, written
from doctor.planted import mask as changed
from PIL import Image

MASKS = "SegmentationClassAug"
BEYOND, KEYS = (
    "masks with values beyond the classes",
    "keys in cls_labels.npy that are spelled unlike the ids",
)
LENGTH, VALUES = "labels in cls_labels.npy of another length", "labels in cls_labels.npy other than 0 and 1"
TEXT = "labels in cls_labels.npy that are not numbers"
NO_LABEL = "ids without image labels"
COLOUR, UNREAD = "masks that hold colours, not class numbers", "masks that cannot be read"


def mask(name: str, change: Callable[[np.ndarray], Image.Image], **options: object) -> Plant:
    """Change the numbers [H, W] of a mask, and save it with options of Pillow."""
    return changed(name, change, MASKS, **options)


def numbers(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """Change the numbers [H, W] of a mask."""
    return mask(name, lambda old: grey(change(old)))


def split(root: Path) -> None:
    """List 300 of the images with masks in train, 100 in val, and keep the labels of these alone."""
    ids = (root / LISTS / "train.txt").read_text().split()
    for name, listed in (("train", ids[:300]), ("val", ids[-100:])):
        (root / LISTS / f"{name}.txt").write_text("\n".join(listed) + "\n")
    labels = np.load(root / "cls_labels.npy", allow_pickle=True).item()
    kept = {name: labels[name] for name in (*ids[:300], *ids[-100:])}
    np.save(root / "cls_labels.npy", np.array(kept, dtype=object))


VOC = {
    "id twice": Planted(line("", "2007_000032"), "ids listed twice in train.txt", "2007_000032", "leave one"),
    "id on both lists": Planted(
        line("", "2011_003216"), "ids both in train and in val", "2011_003216", "off one list"
    ),
    "id of no file": Planted(
        line("", "2007_999999", "val"),
        NO_LABEL,
        "2007_999999",
        "take the ids off",
        ((f"ids without a mask in {MASKS}", "2007_999999"),),
    ),
    "id with suffix": Planted(
        line("2007_000039", "2007_000039.jpg"),
        "ids with a suffix in train.txt",
        "2007_000039.jpg",
        "ids alone",
    ),
    "id without underscore": Planted(
        line("2007_000063", "2007000063"),
        "ids spelled unlike their files in SegmentationClassAug",
        "2007000063 (2007_000063.png)",
        "correct the list",
    ),
    "spaces": Planted(
        line("2007_000068", "  2007_000068\t"),
        "lists with characters that belong to no id",
        "train.txt (spaces around ids)",
        "--fix",
    ),
    "mask RGB": Planted(mask("2007_000121", coloured), COLOUR, "2007_000121", "--fix"),
    "mask in grey": Planted(
        mask("2007_000170", lambda n: coloured(n).convert("L")),
        "masks whose values are VOC's colours in grey",
        "2007_000170",
        "--fix",
    ),
    "mask of reduced colours": Planted(
        mask("2007_000241", reduced),
        "masks whose palette has VOC's colours in another order",
        "2007_000241",
        "--fix",
    ),
    "mask of class 21": Planted(
        numbers("2007_000243", lambda n: np.where(n == 1, 21, n)), BEYOND, "2007_000243 (21)", "correct"
    ),
    "mask ignored": Planted(
        numbers("2007_000250", lambda n: 0 * n + 255), "masks that are 255 everywhere", "2007_000250", "draw"
    ),
    "mask without object": Planted(
        numbers("2007_000256", lambda n: 0 * n), "masks without an object", "2007_000256", "drawn"
    ),
    "mask border alone": Planted(
        numbers("2007_000333", lambda n: np.where(n == 255, n, 0)), LACKS, "2007_000333 (train)", "draw"
    ),
    "mask of another class": Planted(
        numbers("2007_000363", lambda n: np.where(n == 3, 8, n)),
        LACKS,
        "2007_000363 (bird)",
        "correct",
        ((EXTRA, "2007_000363 (cat)"),),
    ),
    "mask shifted": Planted(
        numbers("2007_000364", lambda n: np.where((n > 0) & (n < 255), n - 1, n)),
        LACKS,
        "2007_000364 (person)",
        "correct",
        ((EXTRA, "2007_000364 (horse)"),),
    ),
    "mask truncated": Planted(
        truncated(f"{MASKS}/2007_000392.png"), UNREAD, "2007_000392", "copy them again"
    ),
    "mask empty": Planted(written(f"{MASKS}/2007_000480.png", b""), UNREAD, "2007_000480", "copy them again"),
    "mask overwritten with text": Planted(
        written(f"{MASKS}/2007_000504.png", b"version https://git-lfs"), UNREAD, "2007_000504", "copy"
    ),
    "mask of 16 bits": Planted(
        mask("2007_000515", lambda n: Image.fromarray(n.astype(np.uint16))),
        "masks of more than 8 bits",
        "2007_000515",
        "8 bits",
    ),
    "mask as JPEG": Planted(
        mask("2007_000528", grey, format="JPEG", quality=60), "masks saved as JPEG", "2007_000528", "PNG"
    ),
    "mask with alpha": Planted(
        mask("2007_000549", lambda n: grey(n).convert("LA")), COLOUR, "2007_000549", "convert"
    ),
    "mask missing": Planted(
        removed(f"{MASKS}/2011_003238.png"), f"ids without a mask in {MASKS}", "2011_003238", "draw"
    ),
    "mask in capitals": Planted(
        renamed(f"{MASKS}/2011_003246.png", f"{MASKS}/2011_003246.PNG"),
        "masks with another name than ID.png",
        "2011_003246 (2011_003246.PNG)",
        "rename",
    ),
    "mask resized smoothly": Planted(
        mask("2007_000584", lambda n: grey(n).resize((250, 188), Image.Resampling.BILINEAR)),
        BEYOND,
        "2007_000584 (21, 22, 23)",
        "correct",
    ),
    "label with background": Planted(
        label("2007_000645", lambda v: np.append(1, v)),
        LENGTH,
        "'2007_000645' (21,)",
        "without the background",
    ),
    "label of class numbers": Planted(
        label("2007_000648", lambda v: np.flatnonzero(v)), LENGTH, "'2007_000648' (4,)", "one for each class"
    ),
    "label of a number": Planted(
        label("2007_000713", lambda v: 4), LENGTH, "'2007_000713' ()", "one for each class"
    ),
    "label of counts": Planted(label("2007_000720", lambda v: 2 * v), VALUES, "'2007_000720'", "0 or 1"),
    "label NaN": Planted(label("2007_000733", lambda v: v * np.nan), VALUES, "'2007_000733'", "0 or 1"),
    "label of names": Planted(
        label("2007_000738", lambda v: ["aeroplane"]), TEXT, "'2007_000738'", "20 numbers"
    ),
    "label of texts": Planted(label("2007_000768", lambda v: ["no"] * 20), TEXT, "'2007_000768'", "0 or 1"),
    "label without class": Planted(
        label("2007_000793", lambda v: 0 * v),
        "image labels without a class",
        "2007_000793",
        "missing",
        ((EXTRA, "2007_000793 (bicycle, bus, person)"),),
    ),
    "label missing": Planted(
        label("2007_000822", lambda v: None), NO_LABEL, "2007_000822", "add their labels"
    ),
    "label lacks a class": Planted(
        label("2007_000836", lambda v: v * (np.arange(20) == 12)),
        EXTRA,
        "2007_000836 (person)",
        "add the class",
    ),
    "key of bytes": Planted(
        label("2011_003255", lambda v: v, b"2011_003255"), KEYS, "b'2011_003255' for 2011_003255", "--fix"
    ),
    "key with a suffix": Planted(
        label("2007_000876", lambda v: v, "2007_000876.jpg"), KEYS, "2007_000876.jpg for 2007_000876", "--fix"
    ),
    "key with a path": Planted(
        label("2007_000904", lambda v: v, "JPEGImages/2007_000904.jpg"),
        KEYS,
        "JPEGImages/2007_000904.jpg for 2007_000904",
        "--fix",
    ),
}
