"""A sound data set of six photos, and the doctor on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny import command
from PIL import Image

from fbr_plugin.data import FolderDataModule, write_mask
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.doctor.checkup import check
from fbr_plugin.doctor.findings import Report

NAMES = ("cat", "dog")
Found = dict[str, tuple[str, list[str]]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos 00 to 05 of 24x20 pixels, a cat or a dog in turn; the last two are on the list val."""
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    for folder in ("JPEGImages", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    ids = [f"{number:02d}" for number in range(6)]
    for number, name in enumerate(ids):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((24, 20)).save(root / "JPEGImages" / f"{name}.jpg")
        mask = np.zeros((20, 24), np.uint8)
        mask[4:12, 4:12], mask[0] = 1 + number % 2, 255
        write_mask(root / "SegmentationClass" / f"{name}.png", mask)
    for name, listed in (("train", ids[:4]), ("val", ids[4:])):
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(listed) + "\n")
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    rows = [f"{name},{1 - number % 2},{number % 2}" for number, name in enumerate(ids)]
    (root / "labels.csv").write_text("\n".join(["id,cat,dog", *rows]) + "\n")
    return root


@pytest.fixture
def findings() -> Callable[[WSSSDataModule | Path], Found]:
    """The severity and the cases of each finding about a data module, or about a folder of photos."""

    def run(data: WSSSDataModule | Path) -> Found:
        report = Report()
        check(FolderDataModule(data) if isinstance(data, Path) else data, report, True, 1)
        return {found.what: (found.severity, [*found.cases]) for found in report.findings}

    return run


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `fbr-plugin doctor`: its exit code, and what it prints."""

    def run(*words: object) -> tuple[int, str]:
        code = 0
        try:
            command("doctor", *words)
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().out

    return run
