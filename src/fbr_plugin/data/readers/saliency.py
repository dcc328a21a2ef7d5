"""Saliency maps from any tool."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, find_file
from fbr_plugin.data.readers.images import HIGH_DEPTH, open_image
from fbr_plugin.errors import InputError, MissingFileError

_NAMED = 10  # ids that a complaint spells out


def find_saliency(folder: str | Path, ids: Iterable[str]) -> dict[str, Path]:
    """The map of each id, `ID.png`, `ID.jpg` or `ID.jpeg` in a folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(
            f"saliency_dir={folder} does not exist: write one grey image ID.png per id there"
        )
    found = {name: find_file(folder, name, IMAGE_SUFFIXES) for name in ids}
    if missing := [name for name, path in found.items() if not path.is_file()]:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise MissingFileError(
            f"{len(missing)} of {len(found)} ids have no saliency map ID.png or ID.jpg in {folder}: "
            f"{', '.join(missing[:_NAMED])}{more}; make them, or remove these ids from the list"
        )
    return found


def read_saliency(path: Path) -> NDArray[np.float32]:
    """Read a map [H, W] in [0, 1] from an 8-bit grey image."""
    image = open_image(path)
    if image.mode in (*HIGH_DEPTH, "F"):
        raise InputError(f"{path} is a {image.mode} image: save the saliency map as an 8-bit grey image")
    return np.asarray(image.convert("L"), np.float32) / np.float32(255)


def resize_saliency(saliency: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resample a map [h, w] bilinearly to [height, width]."""
    return np.asarray(cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
