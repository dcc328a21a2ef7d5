"""Finding files under the names of an image, and reading them once."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPEG", ".JPG", ".PNG")

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{1,12})")

_known: ContextVar[dict[Any, Any] | None] = ContextVar("_known", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Within the block, or the function that this decorates, what a `read_once` function returned is kept."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def read_once(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function of hashable arguments read no file twice within `reading_once`."""

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
