"""Errors and warnings about a user's mistakes.

Each error is also the built-in one of its kind; the command line prints it as one line.
"""

import errno
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, get_args


class UserError(Exception):
    """A user's mistake; its message names the value seen and the remedy."""


class InputError(UserError, ValueError):
    """A value, a file's content or a combination of settings that cannot be used."""


class InputTypeError(UserError, TypeError):
    """A value of the wrong type."""


class InputAttributeError(UserError, AttributeError):
    """A user's class without a required attribute."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that does not exist."""


class MissingPackageError(UserError, ImportError):
    """An optional package that is not installed."""


class DiskFullError(UserError, OSError):
    """A disk without room for a file."""


class NonFiniteError(UserError, FloatingPointError):
    """A training whose gradients are NaN or infinite."""


class UsageError(UserError, RuntimeError):
    """A call at the wrong time, or in a folder that another run uses."""


DISK = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the disk's quota is used up; make room",
    errno.EFBIG: "the file is too large for this system; raise the limit (ulimit -f), or use another disk",
    errno.EROFS: "the disk is read-only; use another folder",
    errno.EACCES: "permission denied; change the permissions, or use another folder",
}
"""What the system refuses, and the remedy."""

OUT_OF_MEMORY = "out of memory|can't allocate memory|_ALLOC_FAILED"
"""What errors of CUDA, the CPU and cuDNN say when memory does not suffice, as a regular expression."""


def short(value: object, longest: int = 120) -> str:
    """A value from a file as text of one printable line, cut off after some characters, for errors."""
    text = str(value)
    cut = text if len(text) <= longest else f"{text[:longest]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise `InputError` unless a value is one of the choices.

    Args:
        name: of the argument.
        value: what was given.
        choices: a `Literal`, or any sequence of values.
    """
    known: Iterable[object] = get_args(choices) or choices
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def check_label_thresholds(fg: float, bg: float, names: tuple[str, str] = ("fg", "bg")) -> None:
    """Raise unless two thresholds of scores lie in [0, 1], in this order.

    Args:
        fg: the upper threshold.
        bg: the lower threshold.
        names: what they are called in errors.
    """
    for name, value in zip(names, (fg, bg), strict=True):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie in [0, 1], as the scores of seeds do, got {value}")
    if fg < bg:
        raise InputError(f"{names[0]} ({fg}) is below {names[1]} ({bg}): swap them")


def check_seeds(name: str, seeds: Sequence[int]) -> None:
    """Raise `InputError` unless there are random seeds, all of them different; `name` is the argument's."""
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        raise InputError(f"{name} must be different whole numbers of at least 0, at least one, got {seeds}")


class WarnOnce:
    """A warning of which only the first is given."""

    def __init__(self) -> None:
        self.given = False

    def __call__(self, message: str) -> None:
        """Warn, unless this has warned before."""
        if not self.given:
            self.given = True
            warnings.warn(message, stacklevel=3)
