"""Finding an image's files under any spelling of its name, reading files once, text and JSON."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fbr_plugin.errors import InputError, MissingFileError, short

P = ParamSpec("P")
T = TypeVar("T")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".JPEG", ".JPG", ".PNG", ".WEBP")

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{1,12})")

_VOC_NAME = re.compile(r"\d{4}_\d{6}")

_NAMED = 10  # ids that a complaint spells out

_known: ContextVar[dict[Any, Any] | None] = ContextVar("_known", default=None)


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        known = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding, such as Latin-1"
        raise InputError(
            f"{path} is not in UTF-8 but in {known}, as its line {line} shows: save it as UTF-8"
        ) from error


def read_table(path: Path) -> list[list[str]]:
    """The rows of a table in CSV that are not empty, without spaces around cells."""
    return rows_of_table(path, read_text(path))


def rows_of_table(path: Path, text: str) -> list[list[str]]:
    """The rows of a table's text, as `read_table` returns them; `path` is its file, for errors."""
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise InputError(
            f"{path} is not a table in CSV ({short(error)}): is a quotation mark open, or is it another file?"
        ) from error
    return rows


def read_json(path: Path, remedy: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The content of a JSON file.

    Args:
        path: file to read.
        remedy: what to do if it is missing or broken, for errors.
        hook: what becomes of each object in it, as `json.loads` takes.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: {remedy} there")
    try:
        return json.loads(path.read_bytes(), object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({short(error)}): {remedy} again") from error


@contextmanager
def reading_once() -> Iterator[None]:
    """Within the block, or the decorated function, keep the results of `read_once` functions."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def read_once(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function of hashable arguments read no file twice within `reading_once`."""

    @wraps(function)
    def reader(*args: P.args, **kwargs: P.kwargs) -> T:
        known = _known.get()
        if known is None:
            return function(*args, **kwargs)
        key = (function, args, tuple(kwargs.items()))
        if key not in known:
            known[key] = function(*args, **kwargs)
        result: T = known[key]
        return result

    return reader


def coco_number(name: str) -> int | None:
    """The number in a name of COCO: 9 for `9`, `000000000009` or `COCO_train2014_000000000009`; else None."""
    match = _COCO_NAME.fullmatch(name)
    return int(match[1]) if match else None


def coco_image_id(name: str) -> int | str:
    """COCO's `image_id` of a name: its number, 2007000032 for VOC's 2007_000032, else the name itself."""
    number = coco_number(name)
    if number is None and _VOC_NAME.fullmatch(name):
        return int(name.replace("_", ""))
    return name if number is None else number


def spellings(name: str) -> tuple[str, ...]:
    """The names under which files of an image circulate: for a number also those of COCO 2014."""
    number = coco_number(name)
    if number is None:
        return (name,)
    return (name, f"{number:012d}", f"COCO_train2014_{number:012d}", f"COCO_val2014_{number:012d}")


def find_file(folder: str | Path, name: str, suffixes: tuple[str, ...] = (".png",)) -> Path:
    """The file of an image in a folder, in any spelling of its name; the usual path if there is none."""
    paths = [Path(folder, f"{spelling}{suffix}") for spelling in spellings(name) for suffix in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])


def find_maps(
    setting: str, folder: str | Path, ids: Iterable[str], what: str, suffixes: tuple[str, ...] = (".png",)
) -> dict[str, Path]:
    """The map of each id in a folder.

    Args:
        setting: the argument that names the folder, for errors.
        folder: folder of the maps.
        ids: the images' names without suffix.
        what: the kind of map and its file, for errors.
        suffixes: those that a map may have.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{setting}={folder} does not exist: write one {what} per id there")
    found = {name: find_file(folder, name, suffixes) for name in ids}
    if missing := [name for name, path in found.items() if not path.is_file()]:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise MissingFileError(
            f"{len(missing)} of {len(found)} ids have no {what} in {folder}: "
            f"{', '.join(missing[:_NAMED])}{more}; make them, or remove these ids from the list"
        )
    return found
