"""True boxes [n, 4] of images: x0, y0, x1, y1 in pixels from 0, both corners inside the box."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.errors import InputError

Boxes = Mapping[str, NDArray[np.int64]]

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def object_boxes(path: Path, objects: list[Element], origin: int) -> NDArray[np.int64]:
    """Boxes [n, 4] of the objects of an annotation in VOC's XML.

    Args:
        path: file they are from.
        objects: its objects.
        origin: number of an image's first pixel in the file: 1 in VOC, 0 in ILSVRC.
    """
    corners = [[element.findtext(f"bndbox/{key}", "") for key in _CORNERS] for element in objects]
    try:
        boxes = np.array(corners, np.float64).reshape(-1, 4).round().astype(np.int64) - origin
    except ValueError as error:
        raise InputError(
            f"{path} has boxes that are not four numbers each: {corners}; correct them"
        ) from error
    return check_boxes(path, boxes)


def check_boxes(where: object, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Boxes [n, 4], if there is any and each has a pixel; `where` names them in complaints."""
    if not len(boxes):
        raise InputError(f"{where} holds no box: add one, or take the image off the list of evaluation")
    if (wrong := (boxes[:, 2:] < boxes[:, :2]).any(1)).any():
        raise InputError(
            f"{where}: the box {boxes[wrong][0].tolist()} (x0, y0, x1, y1 counted from 0) ends before it "
            "begins: correct it"
        )
    return boxes


def clip_boxes(where: object, boxes: NDArray[np.int64], image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Boxes [n, 4] cut off at the border of their image [H, W, 3]; `where` names them in complaints."""
    height, width = image.shape[:2]
    last = np.array([width, height]) - 1
    if (wrong := ((boxes[:, :2] > last) | (boxes[:, 2:] < 0)).any(1)).any():
        raise InputError(
            f"{where}: the box {boxes[wrong][0].tolist()} (x0, y0, x1, y1 counted from 0) is outside its "
            f"image of {width}x{height} pixels: is it another image's, or has the image been resized?"
        )
    return boxes.clip(0, np.tile(last, 2))
