"""Fingerprints: equal for a copy, different after an edit of any file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import write_photos
from PIL import Image

from fbr_plugin.data import FolderDataModule
from fbr_plugin.data.fingerprint import PROBE, fingerprint


def of(root: Path) -> dict[str, str]:
    return fingerprint(FolderDataModule(root).source("fit"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def test_a_copy_elsewhere_is_equal(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    assert of(tmp_path / "copy") == of(photos)


def test_a_photo_with_other_pixels_in_as_many_bytes(photos: Path) -> None:
    path = sorted((photos / "JPEGImages").iterdir())[0]
    path.unlink()
    path, pixels = path.with_suffix(".png"), np.zeros((64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)
    before, size = of(photos), path.stat().st_size
    pixels[20:40] = 255
    Image.fromarray(pixels).save(path, compress_level=0)
    assert path.stat().st_size == size > 2 * PROBE
    after = of(photos)
    assert after["images"] != before["images"]
    assert all(after[name] == before[name] for name in before if name != "images")
