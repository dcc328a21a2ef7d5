"""Errors and warnings about a user's mistakes.

Each error is also the built-in one of its kind; the command line prints it as one line.
"""

import warnings
from collections.abc import Iterable
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


class UsageError(UserError, RuntimeError):
    """A call at the wrong time, or in a folder that another run uses."""


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
