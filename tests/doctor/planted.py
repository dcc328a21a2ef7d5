"""How faults are planted in copies of the real data sets, and what the doctor has to say about each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from doctor.faults import JPEG, LISTS, MASK
from PIL import Image

LACKS = "classes in the image labels, but not in the mask"
EXTRA = "classes in the mask, but not in the image labels"

Plant = Callable[[Path], object]


class Planted(NamedTuple):
    """A fault, the finding about it, its case there, words of the remedy; `also` are other findings."""

    plant: Plant
    what: str
    case: str
    remedy: str
    also: tuple[tuple[str, str], ...] = ()

    def findings(self) -> tuple[tuple[str, str], ...]:
        """All findings, each with its case."""
        return ((self.what, self.case), *self.also)


def line(old: str, new: str, name: str = "train") -> Plant:
    """Replace a line in a list; "" appends one."""
    return row(f"{LISTS}/{name}.txt", old, new)


def row(file: str, old: str, new: str) -> Plant:
    """Replace the line of a text file that begins with a text; "" appends one."""

    def plant(root: Path) -> None:
        lines = (root / file).read_text().splitlines()
        if not old:
            lines.append(new)
        else:
            (place,) = (n for n, text in enumerate(lines) if text.startswith(old))
            lines[place : place + 1] = new.split("\n") if new else []
        (root / file).write_text("\n".join(lines) + "\n")

    return plant


def written(file: str, content: bytes) -> Plant:
    """Write a file."""
    return lambda root: (root / file).write_bytes(content)


def photo(
    name: str, change: Callable[[Image.Image], Image.Image], suffix: str = "jpg", **options: Any
) -> Plant:
    """Change the photo ID.jpg, and save it with options of Pillow."""

    def plant(root: Path) -> None:
        path = root / JPEG / f"{name}.jpg"
        image = change(Image.open(path))
        path.unlink()
        image.save(root / JPEG / f"{name}.{suffix}", **options)

    return plant


def mask(name: str, change: Callable[[np.ndarray], Image.Image], folder: str = MASK, **options: Any) -> Plant:
    """Change the numbers [H, W] of a mask, and save it with options of Pillow."""

    def plant(root: Path) -> None:
        path = root / folder / f"{name}.png"
        change(np.array(Image.open(path))).save(path, **options)

    return plant


def windows(root: Path) -> None:
    """Save the list val as Notepad does: a byte order mark and line ends of two characters."""
    path = root / LISTS / "val.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def label(key: str, change: Callable[[np.ndarray], Any], new: object = None) -> Plant:
    """Change the labels [C] of a key in cls_labels.npy, or give them another key."""

    def plant(root: Path) -> None:
        path = root / "cls_labels.npy"
        labels = np.load(path, allow_pickle=True).item()
        labels = {
            new if name == key and new is not None else name: change(value) if name == key else value
            for name, value in labels.items()
        }
        labels = {name: value for name, value in labels.items() if value is not None}
        np.save(path, np.array(labels, dtype=object))

    return plant
