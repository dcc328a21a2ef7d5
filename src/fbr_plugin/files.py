"""Files that are written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def write_text(path: str | Path, text: str) -> None:
    """Write a text file; missing folders are made."""
    with replacing(path) as partial:
        partial.write_text(text)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty folder to fill, which becomes `path` when the block ends well, as in `replacing`.

    A folder that is already there is replaced. This does not wait for the disk.
    """
    path = Path(path).absolute()
    partial, earlier = (path.with_name(f".{path.name}.{os.getpid()}{end}") for end in ("", ".old"))
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(earlier)
        partial.rename(path)
    finally:
        for folder in (partial, earlier):
            shutil.rmtree(folder, ignore_errors=True)
