"""The doctor on real images with a fault of the whole set, which would hide others, and on wrong folders."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doctor.faults import JPEG, LISTS, MASK, edited, grey, removed
from doctor.planted import mask, written
from doctor.voc_faults import MASKS

from fbr_plugin.data import FolderDataModule, Lists, VOCDataModule
from fbr_plugin.doctor.checkup import check
from fbr_plugin.doctor.findings import Finding, Report

COLUMNS = "columns of labels.csv that disagree with the list of classes"
ORDER = "classes in another order in masks than in the list of classes"


def every_mask(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Change the numbers [H, W] of all masks."""

    def plant(root: Path) -> None:
        for path in (root / MASK).iterdir():
            mask(path.stem, lambda numbers: grey(change(numbers)))(root)

    return plant


def separated(sign: str) -> Callable[[Path], None]:
    """Write the table of labels with another sign between its cells."""

    def plant(root: Path) -> None:
        path = root / "labels.csv"
        path.write_text(path.read_text().replace(",", sign))

    return plant


def without_column(root: Path) -> None:
    """Take the last column from the table of labels."""
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))


def without_zeros(root: Path) -> None:
    """Write the list as a spreadsheet does, which takes ids for numbers."""
    path = root / LISTS / "train.txt"
    path.write_text("".join(f"{int(name)}\n" for name in path.read_text().split()))


def with_folders(root: Path) -> None:
    """List the photos with their folder, as Windows writes it."""
    path = root / LISTS / "train.txt"
    path.write_text("".join(f"JPEGImages\\{name}\n" for name in path.read_text().split()))


@pytest.fixture
def few(real_data: Path, tmp_path: Path) -> Path:
    """The first 20 street photos of each list."""
    source, root = real_data / "ccp5", tmp_path / "ccp5"
    for name in ("train", "val"):
        ids = (source / LISTS / f"{name}.txt").read_text().split()[:20]
        (root / LISTS).mkdir(parents=True, exist_ok=True)
        (root / LISTS / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for each in ids:
            for file in (f"{JPEG}/{each}.jpg", f"{MASK}/{each}.png"):
                (root / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(source / file, root / file)
    for file in ("classes.txt", "labels.csv"):
        shutil.copyfile(source / file, root / file)
    return root


def findings(data: FolderDataModule | VOCDataModule, photos: bool = True) -> dict[str, Finding]:
    """The findings about a data module, by what is found."""
    report = Report()
    check(data, report, photos, 1)
    return {finding.what: finding for finding in report.findings}


def test_sound_photos_have_no_finding(few):
    assert findings(FolderDataModule(few)) == {}


@pytest.mark.parametrize(
    ("plant", "what", "cases", "remedy", "others"),
    [
        (edited("labels.csv", "bag,trousers", "trousers,bag"), ORDER, 2, "classes.txt or labels.csv", 0),
        (edited("classes.txt", "bag\ntrousers", "trousers\nbag"), ORDER, 2, "classes.txt or labels.csv", 0),
        (every_mask(lambda n: np.where((n > 0) & (n < 255), n % 5 + 1, n)), ORDER, 5, "convert the masks", 0),
        (edited("classes.txt", "\nskirt", ""), COLUMNS, 1, "id,bag,trousers,dress,coat", 1),
        (edited("classes.txt", "coat", "coats"), COLUMNS, 2, "id,bag,trousers,dress,coats", 0),
        (edited("labels.csv", "id,", "image,"), COLUMNS, 2, "its header must be id and the names", 0),
        (without_column, COLUMNS, 1, "its header must be id and the names", 0),
        (separated(";"), "a table without commas", 1, "write commas between the cells", 0),
        (separated("\t"), "a table without commas", 1, "write commas between the cells", 0),
        (written("labels.csv", b""), COLUMNS, 6, "its header must be id", 0),
        (written(f"{LISTS}/train.txt", b""), "a list is empty", 1, "one image id per line", 0),
        (removed(f"{LISTS}/val.txt"), "a list is missing", 1, "its folder holds train", 0),
        (without_zeros, "ids spelled unlike their files in JPEGImages", 20, "--fix", 0),
        (with_folders, "ids spelled unlike their files in JPEGImages", 20, "--fix", 0),
        (
            lambda root: shutil.move(root / JPEG, root / "images"),
            "a folder of photos is missing",
            1,
            "copy the photos there",
            0,
        ),
        (every_mask(lambda n: np.where(n > 0, 255, 0)), "masks of 0 and 255 alone", 40, "class, 1..5", 0),
        (every_mask(lambda n: np.where(n == 0, 255, n)), "no mask has background", 40, "background is 0", 0),
        (
            every_mask(lambda n: np.where(n == 255, n, n * 50)),
            "masks with values beyond the classes",
            40,
            "0, 1..5",
            0,
        ),
    ],
)
def test_a_fault_of_the_whole_set_is_named_once(plant, what, cases, remedy, others, few):
    plant(few)
    found = findings(FolderDataModule(few))
    assert what in found, found
    assert len(found[what].cases) == cases
    assert remedy in found[what].remedy
    assert len(found) == 1 + others, found


@pytest.fixture
def voc(real_data: Path, tmp_path: Path) -> Path:
    """VOC's labels and the first 200 masks."""
    source, root = real_data / "voc12", tmp_path / "voc12"
    ids = (source / LISTS / "train.txt").read_text().split()[:200]
    (root / LISTS).mkdir(parents=True)
    (root / LISTS / "train.txt").write_text("\n".join(ids) + "\n")
    (root / MASKS).mkdir()
    for each in ids:
        shutil.copyfile(source / MASKS / f"{each}.png", root / MASKS / f"{each}.png")
    labels = np.load(source / "cls_labels.npy", allow_pickle=True).item()
    save(root, {each: labels[each] for each in ids})
    return root


def save(root: Path, labels: object) -> None:
    """Write the pickled labels."""
    np.save(root / "cls_labels.npy", np.array(labels, dtype=object))


def change(function: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    """Change the pickled labels."""
    return lambda root: save(root, function(np.load(root / "cls_labels.npy", allow_pickle=True).item()))


@pytest.mark.parametrize(
    ("plant", "what", "cases", "remedy"),
    [
        (change(lambda d: {k: v[::-1] for k, v in d.items()}), ORDER, 2, "cls_labels.npy"),
        (
            change(lambda d: {k.encode(): v for k, v in d.items()}),
            "keys in cls_labels.npy that are spelled unlike the ids",
            200,
            "--fix",
        ),
        (
            change(lambda d: {k: np.append(1, v) for k, v in d.items()}),
            "labels in cls_labels.npy of another length",
            200,
            "without the background",
        ),
        (
            change(lambda d: {k: np.flatnonzero(v) for k, v in d.items()}),
            "labels in cls_labels.npy of another length",
            200,
            "20 numbers",
        ),
        (
            change(lambda d: {k: 0 * v for k, v in d.items()}),
            "no image label has a class",
            200,
            "write 1 for each class",
        ),
        (
            lambda root: np.save(root / "cls_labels.npy", np.zeros((200, 20))),
            "labels that are no dictionary",
            1,
            "dictionary from id",
        ),
        (written("cls_labels.npy", b""), "labels that cannot be read", 1, "copy it again"),
        (
            written("cls_labels.npy", b"version https://git-lfs.github.com/spec/v1"),
            "labels that cannot be read",
            1,
            "copy it again",
        ),
        (removed("cls_labels.npy"), "the image labels are missing", 1, "copy them there"),
    ],
)
def test_a_fault_of_all_pickled_labels_is_named(plant, what, cases, remedy, voc):
    plant(voc)
    found = findings(VOCDataModule(voc, Lists("train", "train")), photos=False)
    assert what in found, found
    assert len(found[what].cases) == cases
    assert remedy in found[what].remedy
    assert len(found) == 1, found


def test_pickled_labels_may_have_numbers_as_keys(voc):
    change(lambda labels: {int(key.replace("_", "")): value for key, value in labels.items()})(voc)
    assert findings(VOCDataModule(voc, Lists("train", "train")), photos=False) == {}


@pytest.mark.parametrize("place", ["..", "../..", "JPEGImages"])
@pytest.mark.parametrize("data", ["FolderDataModule", "VOCDataModule"])
def test_a_wrong_root_names_the_right_one(place, data, few, doctor):
    few = shutil.move(few, few.parent / "one" / "ccp5") if place == "../.." else few
    code, text = doctor(f"--data=fbr_plugin.data.{data}", "--data.root", few.joinpath(place).resolve())
    assert code == 1
    assert text.count("error  ") == 1
    assert "a root without photos and lists: " in text
    assert f"give --data.root {few}, where they are" in " ".join(text.split())
