"""A tiny folder of your own data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fbr_plugin.data import write_mask


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of `count` images (the i-th 24 + i wide, 20 high) of the classes cat and dog."""

    def make(count: int = 4, csv: str | None = "id,cat,dog") -> Path:
        rng = np.random.default_rng(0)
        ids = [f"img_{i}" for i in range(count)]
        for folder in ("JPEGImages", "ImageSets/Segmentation"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
        for name in ("train", "val"):
            (tmp_path / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for i, name in enumerate(ids):
            pixels = rng.integers(0, 256, (20, 24 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "JPEGImages" / f"{name}.jpg")
            mask = np.zeros((20, 24 + i), np.uint8)
            mask[:5, :5], mask[0, 0] = 1 + i % 2, 255
            write_mask(tmp_path / "SegmentationClass" / f"{name}.png", mask)
        if csv is not None:
            rows = [f"{name},{1 - i % 2},{i % 2}" for i, name in enumerate(ids)]
            (tmp_path / "labels.csv").write_text("\n".join([csv, *rows]) + "\n")
        return tmp_path

    return make
