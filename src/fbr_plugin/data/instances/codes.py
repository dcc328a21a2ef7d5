"""Masks as polygons and run-length codes in COCO's form; pycocotools defines what they cover."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.limits import check_pixels
from fbr_plugin.errors import InputError, MissingPackageError, short

LARGEST = 2**31  # pixels in all masks of an image
_LONGEST = 2**20  # pixels that the edges of an object's polygons may have together
_MOST_CHARACTERS = 7  # of a number in a code, which has 5 bits in each


def mask_tools() -> ModuleType:
    """pycocotools' mask module."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingPackageError(
            "COCO's polygons and run-length codes need pycocotools: pip install 'fbr_plugin[coco]'"
        ) from error
    tools: ModuleType = mask
    return tools


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The compressed code of a mask [H, W]: `size` [H, W] and `counts`, a text."""
    code = mask_tools().encode(np.asfortranarray(mask, np.uint8))
    return {"size": [*map(int, code["size"])], "counts": code["counts"].decode("ascii")}


def decode(segmentation: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask [H, W] of polygons, or of a run-length code of numbers or of text.

    What does not describe a mask of this shape raises some error: see `decode_all`.
    """
    tools, code = mask_tools(), segmentation
    if isinstance(segmentation, list):
        if short := [polygon for polygon in segmentation if len(polygon) < 6]:
            raise InputError(f"a polygon of {len(short[0])} numbers")  # pycocotools reads 4 as a box
        if not np.all(np.abs(np.concatenate([[0.0], *segmentation])) <= 10 * max(shape)):
            raise InputError("a polygon reaches far outside the image")  # it would be traced pixel by pixel
        if sum(map(_length, segmentation)) > _LONGEST:
            raise InputError(f"a polygon with edges of more than {_LONGEST} pixels")
        code = tools.merge(tools.frPyObjects(segmentation, *shape))
    else:
        runs = _runs(segmentation["counts"])
        if [*segmentation["size"]] != [*shape] or min(runs, default=0) < 0 or sum(runs) != math.prod(shape):
            raise InputError(f"its runs do not fill an image of {shape[1]}x{shape[0]} pixels")
        if isinstance(segmentation["counts"], list):
            code = tools.frPyObjects(segmentation, *shape)
    covered: NDArray[np.uint8] = tools.decode(code)
    return covered.view(np.bool_)


def decode_all(codes: Sequence[Any], shape: Sequence[int], where: str, name: str) -> NDArray[np.bool_]:
    """The masks [N, H, W] of an image's objects.

    Args:
        codes: N of polygons or run-length codes.
        shape: H, W.
        where: the file, for errors.
        name: the image, for errors.
    """
    number = len(codes)
    if number:
        mask_tools()
    sides = [*shape] if isinstance(shape, list | tuple) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(
            f"{where}: {short(name)} has the size {short(shape)}, but needs a height and a width: correct it"
        )
    check_pixels(f"{where}: {short(name)}", shape[1], shape[0])
    if number * math.prod(shape) > LARGEST:
        raise InputError(
            f"{where}: {short(name)} has {number} masks of {shape[1]}x{shape[0]} pixels, together more than "
            f"{LARGEST}: correct the size, or leave the image out"
        )
    masks, index = np.zeros((number, *shape), np.bool_), 0
    try:
        for index, code in enumerate(codes):
            masks[index] = decode(code, (shape[0], shape[1]))
    except Exception as error:
        raise InputError(
            f"{where}: the segmentation of an object of {short(name)} cannot be rasterised "
            f"({type(error).__name__}: {short(error)}): correct or remove object {index + 1} of its {number}"
        ) from error
    return masks


def _length(polygon: Sequence[float]) -> float:
    """The pixels that the closed outline of a polygon x0, y0, x1, y1, ... passes."""
    corners = np.asarray(polygon[: len(polygon) // 2 * 2], np.float64).reshape(-1, 2)
    return float(np.abs(corners - np.roll(corners, 1, 0)).max(1).sum())


def _runs(counts: Any) -> list[int]:
    """The lengths of a code's runs, which are numbers or a text.

    A number in a text has 5 bits in each character from `0` on, the lowest first. 32 marks that more follow;
    the highest bit of the last is the sign. From the fourth on, it is the difference to the last but one.
    """
    if isinstance(counts, list):
        if not all(type(run) is int for run in counts):
            raise InputError("its runs are not integers")
        return counts
    values = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
    last = values & 32 == 0
    if not last.any() or not last[-1] or values.min() < 0 or values.max() > 63:
        raise InputError("its text is no code: it is empty, cut off or holds other characters")
    starts = np.append(0, np.flatnonzero(last)[:-1] + 1)
    place = np.arange(len(values)) - starts[last.cumsum() - last]
    if place.max() >= _MOST_CHARACTERS:
        raise InputError(f"its text holds a number of more than {_MOST_CHARACTERS} characters")
    runs = np.add.reduceat((values & 31) << 5 * place, starts)
    runs -= np.where(values[last] & 16, 1 << 5 * (place[last] + 1), 0)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    listed: list[int] = runs.tolist()
    return listed
