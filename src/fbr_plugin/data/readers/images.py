"""Reading and writing images and masks; every error names the file."""

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fbr_plugin.data.readers.limits import check_pixels
from fbr_plugin.errors import InputError, MissingFileError, short
from fbr_plugin.files import replacing

IGNORE = 255
HIGH_DEPTH = ("I", "I;16", "I;16B")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # of others, Pillow starts programs for some

_lock = Lock()  # of Pillow's limit, which all threads share


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """A photo as RGB [H, W, 3], upright; grey, palette, transparent and 16-bit images are converted."""
    image = upright(path, open_image(path))
    if image.mode in HIGH_DEPTH:
        image = Image.fromarray((np.asarray(image, np.float32) / 257).clip(0, 255).astype(np.uint8))
    return np.array(image.convert("RGB"))


def read_mask(path: str | Path, num_classes: int) -> NDArray[np.uint8]:
    """A mask [H, W] of 0 = background, 1..C and 255 = ignore, from a palette or grey PNG.

    Args:
        path: file to read.
        num_classes: C; a value between C and 255 is an error.
    """
    mask = read_numbers(path)
    check_values(path, mask, num_classes)
    return mask


def read_numbers(path: str | Path) -> NDArray[np.uint8]:
    """The number of each pixel [H, W] of a palette or grey PNG."""
    image = open_image(path)
    if image.mode not in ("P", "L", "1"):
        raise InputError(
            f"{path} is a {image.mode} image, but a mask holds one class number per pixel: "
            "save it as a palette or grey PNG"
        )
    return np.array(image, np.uint8)


def check_values(path: str | Path, mask: NDArray[np.uint8], num_classes: int) -> None:
    """Raise for a class number out of range in a mask [H, W]."""
    wrong = np.flatnonzero(np.bincount(mask.ravel(), minlength=IGNORE + 1)[num_classes + 1 : IGNORE])
    if len(wrong):
        raise InputError(
            f"{path} holds the value {wrong[0] + num_classes + 1}, but a mask of {num_classes} classes holds "
            f"0 (background), 1..{num_classes} and {IGNORE} (ignore): correct the file or the class list"
        )


def check_same_size(path: str | Path, mask: NDArray[Any], image: NDArray[Any]) -> None:
    """Raise if a mask [H, W] read from `path` and its image [H, W, 3] differ in size."""
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{path} is {_size(mask)} pixels, but its image is {_size(image)}: resize the mask to its image"
        )


def write_mask(path: str | Path, mask: NDArray[Any]) -> None:
    """Write a mask [H, W] as a palette PNG in VOC's colours, whole or not at all."""
    image = Image.fromarray(np.asarray(mask, np.uint8))
    image.putpalette(voc_palette().ravel().tolist())
    with replacing(path) as partial:
        image.save(partial, format="PNG")


def voc_palette() -> NDArray[np.uint8]:
    """VOC's colours [256, 3], which spread the bits of the class number over RGB."""
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours |= ((np.arange(256)[:, None] >> (3 * bit + np.arange(3))) & 1).astype(np.uint8) << (7 - bit)
    return colours


def open_image(path: str | Path) -> Image.Image:
    """Open and load an image file of one of `FORMATS`, whatever its suffix."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: check the folder and the id in the list file")
    try:
        image = _opened(path)
        check_pixels(path, *image.size)
        image.load()
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into memory: shrink the image or its mask; if its file is small, copy "
            "it again"
        ) from error
    except Exception as error:  # of any kind, as Pillow's readers check little
        raise InputError(
            f"{path} cannot be read ({short(error)}): the file is truncated or not an image in JPEG, PNG, "
            "WebP, BMP or GIF; copy it again or remove it from the list"
        ) from error
    return image


def _opened(path: Path) -> Image.Image:
    """Read the header of an image without Pillow's limit of pixels, which `check_pixels` replaces."""
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def upright(path: str | Path, image: Image.Image) -> Image.Image:
    """An image as its EXIF data turn it; `path` names its file in errors."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        raise InputError(
            f"{path} has EXIF data that cannot be read ({short(error)}): save the photo without them"
        ) from error


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
