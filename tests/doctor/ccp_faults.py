"""Faults that are planted together in one copy of 600 street photos."""

from pathlib import Path

import numpy as np
from doctor.faults import JPEG, MASK, coloured, copied, grey, reduced, removed, renamed, truncated
from doctor.planted import EXTRA, LACKS, Planted, line, mask, photo, row, windows, written
from PIL import Image

SIZE, COLOUR = "mask and photo differ in size", "masks that hold colours, not class numbers"
UNREAD_PHOTO, UNREAD_MASK = "photos that cannot be read", "masks that cannot be read"
BEYOND, KEYS = "masks with values beyond the classes", "keys in labels.csv that are spelled unlike the ids"
STRAY = "lists with characters that belong to no id"
CELLS = "rows of labels.csv that are not 0 or 1 for each class"


EXIF = Image.Exif()
EXIF[0x0112] = 6


def same(image: Image.Image) -> Image.Image:
    """The image itself."""
    return image


def transparent(image: Image.Image) -> Image.Image:
    """The image, half transparent."""
    image.putalpha(128)
    return image


def deep(image: Image.Image) -> Image.Image:
    """The image in grey of 12 bits."""
    return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 16)


def near(root: Path) -> None:
    """Save a photo of train anew as one of val, brighter and with less contrast."""
    image = Image.open(root / JPEG / "0072.jpg").point(lambda level: level * 0.9 + 10)
    image.save(root / JPEG / "0029.jpg", quality=40)


CCP = {
    "id twice": Planted(line("", "0001"), "ids listed twice in train.txt", "0001", "leave one"),
    "id on both lists": Planted(line("", "0011"), "ids both in train and in val", "0011", "off one list"),
    "id of no file": Planted(line("", "9999"), "ids without a photo", "9999", "take the id off the list"),
    "id without zeros": Planted(
        line("0004", "4"), "ids spelled unlike their files in JPEGImages", "4 (0004.jpg)", "correct the list"
    ),
    "id with suffix": Planted(
        line("0005", "0005.jpg"), "ids with a suffix in train.txt", "0005.jpg", "ids alone"
    ),
    "id with a path": Planted(
        line("0016", "JPEGImages/0016.jpg"),
        "ids with a suffix in train.txt",
        "JPEGImages/0016.jpg",
        "ids alone",
    ),
    "id with a space": Planted(
        line("0007", "0007 skirt"), "ids with spaces in train.txt", "0007 skirt", "rename"
    ),
    "empty line": Planted(line("0008", "\n0008"), "empty lines in a list", "train.txt:5", "remove"),
    "list of Windows": Planted(windows, STRAY, "val.txt (a byte order mark, Windows line endings)", "--fix"),
    "photo missing": Planted(removed(f"{JPEG}/0017.jpg"), "ids without a photo", "0017", "copy the photo"),
    "suffix in mixed case": Planted(
        renamed(f"{JPEG}/0020.jpg", f"{JPEG}/0020.Jpg"),
        "photos whose suffix mixes small and capital letters",
        "0020 (0020.Jpg)",
        "rename",
    ),
    "photo of another format": Planted(
        photo("0024", same, "bmp"), "photos of a format that is not read", "0024.bmp", "JPEG or PNG"
    ),
    "photo truncated": Planted(truncated(f"{JPEG}/0026.jpg"), UNREAD_PHOTO, "0026", "copy them again"),
    "photo empty": Planted(written(f"{JPEG}/0034.jpg", b""), UNREAD_PHOTO, "0034", "copy them again"),
    "page in place of a photo": Planted(
        written(f"{JPEG}/0036.jpg", b"<html>404</html>"), UNREAD_PHOTO, "0036", "no images"
    ),
    "PNG called JPEG": Planted(
        photo("0039", same, format="PNG"), "photos that are not what their suffix says", "0039", "rename"
    ),
    "photo not upright": Planted(
        photo("0045", same, exif=EXIF),
        "masks drawn on photos that were not turned upright",
        "0045",
        "turn the mask",
        (("photos turned by their EXIF data", "0045"),),
    ),
    "photo grey": Planted(
        photo("0047", lambda i: i.convert("L")), "grey photos", "0047", "three equal channels"
    ),
    "photo CMYK": Planted(
        photo("0049", lambda i: i.convert("CMYK")), "CMYK photos", "0049", "save them as RGB"
    ),
    "photo of 12 bits": Planted(photo("0051", deep, "png"), "photos of more than 8 bits", "0051", "8 bits"),
    "photo transparent": Planted(
        photo("0052", transparent, "png"), "transparent photos", "0052", "on a background"
    ),
    "photo on both lists": Planted(
        copied(f"{JPEG}/0071.jpg", f"{JPEG}/0021.jpg"),
        "photos that are the same under several ids",
        "0071 = 0021",
        "keep one",
    ),
    "photo twice in train": Planted(
        copied(f"{JPEG}/0005.jpg", f"{JPEG}/0014.jpg"),
        "photos that are the same under several ids",
        "0005 = 0014",
        "keep one",
    ),
    "photo nearly on both lists": Planted(
        near, "photos of train that are nearly the same in val", "0072 ~ 0029", "on one list"
    ),
    "photo in two files": Planted(
        copied(f"{JPEG}/0055.jpg", f"{JPEG}/0055.jpeg"),
        "photos of one id in several files",
        "0055.jpeg 0055.jpg",
        "remove or rename",
    ),
    "photo halved": Planted(
        photo("0056", lambda i: i.resize((128, 191))),
        SIZE,
        "0056 (mask 256x382, photo 128x191)",
        "resize the mask",
    ),
    "photo not listed": Planted(line("0057", ""), "photos in no list", "0057", "add them"),
    "mask of no photo": Planted(
        copied(f"{MASK}/0001.png", f"{MASK}/9998.png"), "masks of no photo", "9998", "remove"
    ),
    "mask truncated": Planted(truncated(f"{MASK}/0058.png"), UNREAD_MASK, "0058", "copy them again"),
    "mask empty": Planted(written(f"{MASK}/0059.png", b""), UNREAD_MASK, "0059", "copy them again"),
    "mask RGB": Planted(mask("0061", coloured), COLOUR, "0061", "--fix"),
    "mask RGBA": Planted(mask("0080", lambda n: coloured(n).convert("RGBA")), COLOUR, "0080", "--fix"),
    "mask in grey": Planted(
        mask("0062", lambda n: coloured(n).convert("L")),
        "masks whose values are VOC's colours in grey",
        "0062",
        "--fix",
    ),
    "mask stretched": Planted(mask("0064", lambda n: grey(n * 40)), BEYOND, "0064 (40)", "correct"),
    "mask of a sixth class": Planted(
        mask("0065", lambda n: grey(np.where(n == 2, 6, n))), BEYOND, "0065 (6)", "correct"
    ),
    "mask ignored": Planted(
        mask("0066", lambda n: grey(0 * n + 255)), "masks that are 255 everywhere", "0066", "draw them"
    ),
    "mask without object": Planted(
        mask("0070", lambda n: grey(0 * n)), "masks without an object", "0070", "drawn"
    ),
    "mask missing": Planted(
        removed(f"{MASK}/0041.png"), "ids without a mask in SegmentationClass", "0041", "off the list"
    ),
    "mask in capitals": Planted(
        renamed(f"{MASK}/0044.png", f"{MASK}/0044.PNG"),
        "masks with another name than ID.png",
        "0044 (0044.PNG)",
        "rename",
    ),
    "mask cut": Planted(
        mask("0048", lambda n: grey(n[9:])), SIZE, "0048 (mask 256x380, photo 256x389)", "resize"
    ),
    "mask turned": Planted(
        mask("0053", lambda n: grey(n.T)), SIZE, "0053 (mask 402x256, photo 256x402)", "resize"
    ),
    "mask of reduced colours": Planted(
        mask("0068", reduced), "masks whose palette has VOC's colours in another order", "0068", "--fix"
    ),
    "mask of 16 bits": Planted(
        mask("0087", lambda n: Image.fromarray(n.astype(np.uint16))),
        "masks of more than 8 bits",
        "0087",
        "8 bits",
    ),
    "mask as JPEG": Planted(mask("0095", grey, format="JPEG"), "masks saved as JPEG", "0095", "PNG"),
    "mask of another image": Planted(
        copied(f"{MASK}/0227.png", f"{MASK}/0098.png"), LACKS, "0098 (bag, coat)", "correct"
    ),
    "mask of one bit": Planted(mask("0107", lambda n: Image.fromarray(n > 0)), LACKS, "0107 (dress)", "draw"),
    "label missing": Planted(
        row("labels.csv", "0109", ""), "ids without image labels", "0109", "add their labels"
    ),
    "label of 2": Planted(row("labels.csv", "0118", "0118,1,2,0,1,0"), CELLS, "0118", "cells of 0 or 1"),
    "label too short": Planted(row("labels.csv", "0219", "0219,1,1,0"), CELLS, "0219", "5 cells"),
    "label with an empty cell": Planted(row("labels.csv", "0227", "0227,,0,1,0,0"), CELLS, "0227", "0 or 1"),
    "label twice": Planted(
        row("labels.csv", "0122", "0122,1,1,0,0,0\n0122,1,0,0,0,0"),
        "ids with two different rows in labels.csv",
        "0122",
        "the right one",
        ((EXTRA, "0122 (trousers)"),),
    ),
    "label twice alike": Planted(
        row("labels.csv", "0153", "0153,1,0,1,0,0\n0153,1,0,1,0,0"),
        "ids with two equal rows in labels.csv",
        "0153",
        "leave one",
    ),
    "label without class": Planted(
        row("labels.csv", "0170", "0170,0,0,0,0,0"),
        "image labels without a class",
        "0170",
        "missing",
        ((EXTRA, "0170 (bag)"),),
    ),
    "key with a suffix": Planted(
        row("labels.csv", "0188,", "0188.jpg,0,0,1,0,1"), KEYS, "0188.jpg for 0188", "--fix"
    ),
    "key without zeros": Planted(row("labels.csv", "0192,", "192,0,1,0,1,0"), KEYS, "192 for 0192", "--fix"),
    "label lacks a class": Planted(
        row("labels.csv", "0196", "0196,1,0,0,0,0"), EXTRA, "0196 (trousers)", "add the class"
    ),
    "label of too many": Planted(
        row("labels.csv", "0209", "0209,1,1,0,1,0"), LACKS, "0209 (bag)", "correct the label"
    ),
}
