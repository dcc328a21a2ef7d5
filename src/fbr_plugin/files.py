"""Files that are written whole or not at all, in places that are checked first."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from fbr_plugin.errors import InputError


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
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(partial)):
            error.filename = str(path)  # not every library names it
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file; missing folders are made."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


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


def make_folder(path: str | Path) -> None:
    """Make a folder for results, and see that files can be written there, before anything is computed."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot hold results ({error.strerror}): name another folder") from error


def warn_of_files(folder: str | Path) -> None:
    """Warn of files in a folder of results, which new ones would join."""
    if old := [path for path in Path(folder).glob("*") if path.is_file()]:
        warnings.warn(
            f"{folder} already holds {len(old)} files: those of the same names are replaced, the others stay",
            stacklevel=2,
        )


def check_folder(path: str | Path) -> None:
    """Raise unless a folder can hold results; a folder that is missing is made and removed again."""
    made = [each for each in (Path(path), *Path(path).parents) if not each.exists()]
    try:
        make_folder(path)
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def check_file(path: str | Path) -> None:
    """Raise unless a file of results can be written; nothing is left behind."""
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: name the file to write")
    check_folder(Path(path).parent)
