"""The pictures of one image: a small photo, and maps of bytes as grey PNGs that a page decodes exactly."""

import io
from base64 import b64encode

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fbr_plugin.data.instances.arrays import InstanceArrays
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS, top_class_bins
from fbr_plugin.postprocess.seeds import Seed

SIDE = 256  # pixels of a picture's longer side, at most
_QUALITY = 82  # of a photo's JPEG
_LEAST = 0.05  # score of the instances that are shown, as in figures
_MOST = 254  # instances of an image, which a byte numbers


def small_size(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of the pictures of an image [H, W, 3]."""
    height, width = image.shape[:2]
    factor = min(1, SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def shrink(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The nearest pixels of a map [H, W] on a grid of this size [h, w]; thresholding commutes with this."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(plane.shape, size, strict=True)
    )
    small: NDArray[np.uint8] = plane[rows[:, None], columns]
    return small


def jpeg(image: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """An image [H, W, 3] of this size [h, w] as JPEG."""
    file = io.BytesIO()
    small = Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS)
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def png(plane: NDArray[np.uint8]) -> str:
    """A map of bytes [h, w] as a grey PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(plane).save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode("ascii")


def seed_planes(seed: Seed) -> list[NDArray[np.uint8]]:
    """The class and the quantised score of each pixel, which determine the mask at every threshold.

    At the threshold of index t in `BACKGROUND_THRESHOLDS`, the mask is the class where the second map
    exceeds t, and background elsewhere: the argmax over the classes and a background of that score.

    Args:
        seed: of one image, [H, W].

    Returns:
        [H, W] the class 1..C of the highest score, 0 where that exceeds no threshold; [H, W] how many
        thresholds it exceeds.
    """
    best, bins = top_class_bins(torch.from_numpy(seed.scores), BACKGROUND_THRESHOLDS)
    levels = bins.numpy().astype(np.uint8)
    if not len(seed.keys):
        return [levels, levels]
    classes = (seed.keys + 1)[best.numpy()]
    return [np.where(levels, classes, 0).astype(np.uint8), levels]


def instance_plane(found: InstanceArrays) -> tuple[NDArray[np.uint8], list[tuple[int, float | None]]]:
    """A map of the instances of an image, the largest below, and the class and score of each.

    Args:
        found: the instances; those with a score under 0.05 are left out, and those beyond the best 254.

    Returns:
        [H, W] numbers of the instances, 0 for none; and for each number from 1 its class and its score.
    """
    masks, labels, scores = found["masks"], found["labels"], found.get("scores")
    order = np.arange(len(masks)) if scores is None else np.argsort(-scores, kind="stable")
    kept = [index for index in order[:_MOST] if scores is None or scores[index] >= _LEAST]
    kept.sort(key=lambda index: -int(masks[index].sum()))
    plane = np.zeros(masks.shape[1:], np.uint8)
    for number, index in enumerate(kept, start=1):
        plane[masks[index]] = number
    return plane, [
        (int(labels[index]), None if scores is None else round(float(scores[index]), 3)) for index in kept
    ]
