"""Ground-truth boxes [n, 4]: x0, y0, x1, y1 in pixels from 0, both corners inside the box."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.errors import InputError, short

Boxes = Mapping[str, NDArray[np.int64]]

_LARGEST = 2**31  # no image has this many pixels in a row
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def object_boxes(path: Path, objects: list[Element], origin: int) -> NDArray[np.int64]:
    """Boxes [n, 4] of the objects in an annotation in VOC's XML.

    Args:
        path: the annotation file.
        objects: its objects.
        origin: number of an image's first pixel in the file: 1 in VOC, 0 in ILSVRC.
    """
    corners = [[element.findtext(f"bndbox/{key}", "") for key in _CORNERS] for element in objects]
    return check_boxes(path, whole_numbers(path, corners) - origin)


def whole_numbers(path: Path, corners: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Rows [n, 4] of four numbers each in a file, rounded."""
    try:
        numbers = np.array(corners, np.float64).reshape(-1, 4)
    except (TypeError, ValueError):
        numbers = np.full((1, 4), np.nan)
    if not (np.abs(numbers) < _LARGEST).all():
        raise InputError(f"{path} has boxes that are not four numbers each: {short(corners)}; correct them")
    return numbers.round().astype(np.int64)


def check_boxes(where: object, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Check that there is a box and that every box [n, 4] has a pixel; `where` names them in errors."""
    if not len(boxes):
        raise InputError(f"{where} has no box: add one, or remove the image from the evaluation list")
    if (wrong := (boxes[:, 2:] < boxes[:, :2]).any(1)).any():
        raise InputError(
            f"{where}: the box {boxes[wrong][0].tolist()} (x0, y0, x1, y1 counted from 0) ends before it "
            "begins: correct it"
        )
    return boxes


def clip_boxes(where: object, boxes: NDArray[np.int64], image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Boxes [n, 4] clipped to their image [H, W, 3]; `where` names them in errors."""
    height, width = image.shape[:2]
    last = np.array([width, height]) - 1
    if (wrong := ((boxes[:, :2] > last) | (boxes[:, 2:] < 0)).any(1)).any():
        raise InputError(
            f"{where}: the box {boxes[wrong][0].tolist()} (x0, y0, x1, y1 counted from 0) is outside its "
            f"image of {width}x{height} pixels: is it another image's, or has the image been resized?"
        )
    return boxes.clip(0, np.tile(last, 2))
