"""Writing files whole or not at all, and finding them under the names that an image goes by."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPEG", ".JPG", ".PNG")

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{1,12})")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to: it becomes `path` when the block ends well, and is removed when it fails.

    It is on the disk before it takes the place: neither a kill nor a power cut leaves half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def coco_number(name: str) -> int | None:
    """9 of `9`, `000000000009` or `COCO_train2014_000000000009`; None of any other name."""
    match = _COCO_NAME.fullmatch(name)
    return int(match[1]) if match else None


def spellings(name: str) -> tuple[str, ...]:
    """The names under which files of an image circulate: for a number also those of COCO 2014."""
    number = coco_number(name)
    if number is None:
        return (name,)
    return (name, f"{number:012d}", f"COCO_train2014_{number:012d}", f"COCO_val2014_{number:012d}")


def find_file(folder: str | Path, name: str, suffixes: tuple[str, ...] = (".png",)) -> Path:
    """The file of an image in a folder, in any spelling of its name; the usual path where there is none."""
    paths = [Path(folder, f"{spelling}{suffix}") for spelling in spellings(name) for suffix in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])
