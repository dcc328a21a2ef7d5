"""Convert the download of MSRC v2 to a folder for `FolderDataModule`, with maps of the stuff:

python examples/msrc_to_folder.py MSRC_ObjCategImageDatabase_v2 MSRC
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fbr_plugin.data import read_image, write_mask
from fbr_plugin.data.readers.images import IGNORE, check_same_size, voc_palette
from fbr_plugin.errors import InputError, MissingFileError, UserError
from fbr_plugin.files import replacing, write_text

# MSRC v2 has the colours of VOC's palette, in this order; two of them stand for nothing.
NAMES = (
    *("void", "building", "grass", "tree", "cow", "horse", "sheep", "sky", "mountain", "aeroplane", "water"),
    *("face", "car", "bicycle", "flower", "sign", "bird", "book", "chair", "-", "-", "road", "cat", "dog"),
    *("body", "boat"),
)
STUFF = ("building", "grass", "tree", "sky", "mountain", "water", "road")
IGNORED = ("void", "horse")  # of horses there are too few photos, so they are usually left out
PARTS = {"face": "person", "body": "person"}
CLASSES = tuple(sorted({PARTS.get(name, name) for name in NAMES} - {*STUFF, *IGNORED, "-"}))


def code(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """One number for each colour [..., 3]."""
    return colours.astype(np.int64) @ (65536, 256, 1)


def numbers(name: str) -> tuple[int, int]:
    """The number of a name in masks and in maps of stuff."""
    if name in STUFF:
        return 0, 1 + STUFF.index(name)
    return IGNORE if name in IGNORED else 1 + CLASSES.index(PARTS.get(name, name)), 0


KNOWN = {
    int(value): numbers(name)
    for name, value in zip(NAMES, code(voc_palette()[: len(NAMES)]), strict=True)
    if name != "-"
}


def decode(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The mask [H, W] and the map of stuff [H, W] in a colour-coded image."""
    colours = read_image(path)
    values, where = np.unique(code(colours), return_inverse=True)
    if unknown := [int(value) for value in values if int(value) not in KNOWN]:
        red, green, blue = unknown[0].to_bytes(3, "big")
        raise InputError(
            f"{path} holds the colour ({red}, {green}, {blue}), which stands for no class of MSRC v2: unpack "
            "the download again, and convert no copy that was scaled or saved as JPEG"
        )
    found = np.array([KNOWN[int(value)] for value in values], np.uint8)[where.reshape(colours.shape[:2])]
    return found[..., 0], found[..., 1]


def convert(source: Path, target: Path) -> int:
    """Write the images with objects, their masks and maps of stuff, and the lists; return their number."""
    photos = sorted((source / "Images").glob("*.bmp"))
    if not photos:
        raise MissingFileError(
            f"{source / 'Images'} holds no *.bmp: name the folder in which the download was unpacked, which "
            "has Images and GroundTruth"
        )
    truths = [source / "GroundTruth" / f"{photo.stem}_GT.bmp" for photo in photos]
    if missing := [path.name for path in truths if not path.is_file()]:
        raise MissingFileError(
            f"{len(missing)} of {len(photos)} images have no file in {source / 'GroundTruth'}, the first is "
            f"{missing[0]}: unpack the download again"
        )
    rows = {}
    for photo, truth in zip(photos, truths, strict=True):
        image, (mask, stuff) = read_image(photo), decode(truth)
        check_same_size(truth, mask, image)
        present = [int((mask == number).any()) for number in range(1, len(CLASSES) + 1)]
        if not any(present):
            continue
        rows[photo.stem] = present
        with replacing(target / "JPEGImages" / f"{photo.stem}.png") as partial:
            Image.fromarray(image).save(partial, format="PNG")
        write_mask(target / "SegmentationClass" / f"{photo.stem}.png", mask)
        write_mask(target / "StuffClass" / f"{photo.stem}.png", stuff)
    lines = [["id", *CLASSES], *([name, *map(str, present)] for name, present in rows.items())]
    texts = {"classes.txt": CLASSES, "stuff.txt": STUFF, "labels.csv": map(",".join, lines)}
    texts |= {f"ImageSets/Segmentation/{name}.txt": tuple(rows) for name in ("train", "val")}
    for name, content in texts.items():
        write_text(target / name, "".join(f"{line}\n" for line in content))
    return len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the download, with Images and GroundTruth")
    parser.add_argument("target", type=Path, help="folder to write")
    options = parser.parse_args()
    try:
        print(f"{convert(options.source, options.target)} images with objects in {options.target}")
    except UserError as error:
        sys.exit(f"error: {error}")
