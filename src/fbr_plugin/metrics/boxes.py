"""Score maps and boxes on one grid: overlap, scaling, and the boxes a map gives at every threshold.

A box is x0, y0, x1, y1 in pixels from 0, both corners inside it: one pixel is a box with x0 = x1, y0 = y1.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.errors import InputError

SIZE = 224
"""Side in pixels to which score maps, boxes and masks are resized before they are compared."""

BOX_THRESHOLDS = np.arange(0, 1, 0.001)
"""The thresholds, as shares of a map's maximum."""

IOUS = (0.3, 0.5, 0.7)
"""The overlaps with a true box from which a box is right."""


def check_batch(maps: Tensor, truths: Sequence[Tensor] | Tensor, sizes: Tensor | None) -> None:
    """Raise unless a batch holds finite score maps and as many truths and sizes.

    Args:
        maps: [B, h, w] score maps.
        truths: boxes or masks of each image.
        sizes: [B, 2] heights and widths, or None.
    """
    if maps.ndim != 3 or len(truths) != len(maps):
        raise InputError(
            f"maps must be [B, h, w] with a truth for each, got {tuple(maps.shape)} and {len(truths)} truths"
        )
    if sizes is not None and sizes.shape != (len(maps), 2):
        raise InputError(f"sizes must be [B, 2], got {tuple(sizes.shape)} for {len(maps)} maps")
    if not maps.isfinite().all():
        raise InputError("maps hold NaN or infinite scores")


def box_iou(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of all pairs of boxes.

    Args:
        first: [..., N, 4] boxes.
        second: [..., M, 4] boxes.

    Returns:
        [..., N, M] overlaps in [0, 1].
    """
    a, b = first[..., :, None, :], second[..., None, :, :]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    shared = sides.clip(min=0).prod(-1)
    overlap: NDArray[np.float64] = shared / (_area(a) + _area(b) - shared)
    return overlap


def _area(boxes: NDArray[Any]) -> NDArray[Any]:
    area: NDArray[Any] = (boxes[..., 2:] - boxes[..., :2] + 1).prod(-1)
    return area


def clip_boxes(boxes: NDArray[np.float64], height: int, width: int) -> tuple[NDArray[np.float64], bool]:
    """Cut the boxes of one image to it.

    Args:
        boxes: [n, 4] boxes.
        height: of the image.
        width: of the image.

    Returns:
        boxes: [n, 4] boxes inside the image.
        cut: whether any reached beyond it.
    """
    if boxes.ndim != 2 or boxes.shape[-1] != 4 or not len(boxes):
        raise InputError(
            f"an image needs one or more boxes [n, 4] of x0, y0, x1, y1, got {tuple(boxes.shape)}: leave out "
            "images without boxes"
        )
    edge = np.array([width, height, width, height]) - 1.0
    wrong = (boxes[:, 2:] < boxes[:, :2]) | (boxes[:, :2] > edge[:2]) | (boxes[:, 2:] < 0)
    if wrong.any():
        raise InputError(
            f"the box {boxes[wrong.any(1)][0].tolist()} has no pixel in its image of {width}x{height}: boxes "
            "are x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, in pixels of the image whose size is given"
        )
    clipped = boxes.clip(0, edge)
    return clipped, bool((clipped != boxes).any())


def scale_boxes(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Scale the boxes [n, 4] of an image to one of `SIZE` x `SIZE`."""
    return boxes * SIZE / np.array([width, height, width, height], np.float64)


def resize_map(score: NDArray[np.float64], interpolation: int) -> NDArray[np.float64]:
    """Resize a map [h, w] to [`SIZE`, `SIZE`] with one of OpenCV's interpolations."""
    return np.asarray(cv2.resize(score, (SIZE, SIZE), interpolation=interpolation), np.float64)


def normalise_map(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stretch a map [h, w] to [0, 1] by its extremes; a constant one becomes 0."""
    above = score - float(score.min())
    return above / (float(above.max()) or 1.0)


def contour_ious(
    score: NDArray[np.float64], thresholds: NDArray[np.float64], boxes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare true boxes with those of the contours of a score map at every threshold.

    The map is cut to 256 levels, so it has few distinct outlines: contours are traced once for each. A hole's
    contour counts as one more. A map without any contour has the box of its first pixel.

    Args:
        score: [S, S] normalised scores.
        thresholds: [T] shares of the maximum in [0, 1).
        boxes: [n, 4] true boxes on this grid.

    Returns:
        largest: [T] overlap of the contour of the largest area with the true box nearest to it.
        best: [T] largest overlap of any contour with any true box.
    """
    levels = (score * 255).astype(np.uint8)
    cuts = (thresholds * levels.max()).astype(np.uint8)
    distinct = np.unique(np.minimum(levels, 254))
    found, areas = zip(*(_contours(levels > level) for level in distinct), strict=True)
    starts = np.cumsum([0, *map(len, found[:-1])])
    overlap = box_iou(np.concatenate(found), boxes).max(1)
    largest = overlap[starts + [area.argmax() for area in areas]]
    level_of_cut = np.searchsorted(distinct, cuts, side="right") - 1
    return largest[level_of_cut], np.maximum.reduceat(overlap, starts)[level_of_cut]


def _contours(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Boxes [N, 4] and areas [N] of the contours of a mask [S, S], in the order of tracing.

    A box reaches one pixel further right and down than its contour, as published figures have it.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.zeros((1, 4), np.int64), np.zeros(1)
    corner, side = np.split(np.array([cv2.boundingRect(contour) for contour in contours]), 2, axis=1)
    boxes = np.concatenate([corner, np.minimum(corner + side, len(mask) - 1)], 1)
    return boxes, np.array([cv2.contourArea(contour) for contour in contours])


def component_box(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Box [4] of the component of a mask [S, S] with most pixels, the whole grid where there is none.

    Pixels that touch at a corner are connected. The box reaches one pixel further right and down, as in the
    evaluation published with BAS.
    """
    number, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if number == 1:
        return np.array([0, 0, *mask.shape[::-1]], np.float64)
    x, y, width, height, _ = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()]
    return np.array([x, y, x + width, y + height], np.float64)


def centred_boxes(sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """Boxes in the middle of the grid of every pair of sides: [K, K, 4] for K even widths and heights."""
    low, high = (SIZE - sides) // 2, (SIZE + sides) // 2 - 1
    x, y = np.meshgrid(np.arange(len(sides)), np.arange(len(sides)), indexing="ij")
    return np.stack([low[x], low[y], high[x], high[y]], -1)
