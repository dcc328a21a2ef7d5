"""Saliency maps from any tool."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, find_maps
from fbr_plugin.data.readers.images import HIGH_DEPTH, open_image
from fbr_plugin.errors import InputError


def find_saliency(folder: str | Path, ids: Iterable[str]) -> dict[str, Path]:
    """The map of each id, `ID.png`, `ID.jpg` or `ID.jpeg` in a folder."""
    return find_maps("saliency_dir", folder, ids, "saliency map ID.png or ID.jpg", IMAGE_SUFFIXES)


def read_saliency(path: Path) -> NDArray[np.float32]:
    """Read a map [H, W] in [0, 1] from an 8-bit grey image."""
    image = open_image(path)
    if image.mode in (*HIGH_DEPTH, "F"):
        raise InputError(f"{path} is a {image.mode} image: save the saliency map as an 8-bit grey image")
    return np.asarray(image.convert("L"), np.float32) / np.float32(255)


def resize_saliency(saliency: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resample a map [h, w] bilinearly to [height, width]."""
    return np.asarray(cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
