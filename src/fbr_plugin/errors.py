"""Mistakes in what a user gave, as errors and as warnings.

Each error is also the built-in one of its kind; the command line prints any of them as one line.
"""

import warnings
from collections.abc import Iterable
from typing import Any, get_args


class UserError(Exception):
    """A mistake in what the user gave; its message names the value seen and the remedy."""


class InputError(UserError, ValueError):
    """A value, a file's content or a combination of settings that cannot be used."""


class InputTypeError(UserError, TypeError):
    """A value of the wrong type."""


class InputAttributeError(UserError, AttributeError):
    """A class of one's own that lacks what is asked of it."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that does not exist."""


class MissingPackageError(UserError, ImportError):
    """An optional package that is not installed."""


class DiskFullError(UserError, OSError):
    """A disk without room for what is written."""


class UsageError(UserError, RuntimeError):
    """Something asked for at the wrong time, or where another run is at work."""


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


class WarnOnce:
    """A warning of which only the first is given."""

    def __init__(self) -> None:
        self.given = False

    def __call__(self, message: str) -> None:
        """Warn, unless this has warned before."""
        if not self.given:
            self.given = True
            warnings.warn(message, stacklevel=3)
