"""The entry point: it finds the command, and turns a mistake in the input into one line."""

import logging
import os
import sys
import warnings
from importlib import import_module

from fbr_plugin.errors import UserError

# Commands with a file of their own in this folder; Lightning's subcommands share `lightning`.
COMMANDS = ("pipeline", "evaluate", "export", "demo")


def main(args: list[str] | None = None) -> None:
    """Run a command line.

    Args:
        args: the words after `fbr-plugin`; None takes those of the shell, where a mistake in the input ends
            in one line in place of a traceback.
    """
    # Lightning advertises other packages, warns of its own use of torch, and of a run in a folder of its own.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_advertises_nothing)
    for known in (".*isinstance.treespec, LeafSpec", "The dirpath has changed from"):
        warnings.filterwarnings("ignore", known)
    sys.path.append(os.getcwd())  # where one's own classes are, as with `python -m fbr_plugin`
    words = sys.argv[1:] if args is None else args
    command = words[0] if words and words[0] in COMMANDS else "lightning"
    try:
        import_module(f"fbr_plugin.cli.{command}").run(words)
    except Exception as error:
        mistake = _mistake(error)
        if args is not None or mistake is None:
            raise
        sys.exit(f"error: {_last_line(mistake)}")


def _mistake(error: BaseException | None) -> BaseException | None:
    """The user's mistake that caused an error, also a missing file; None where there is none."""
    while error is not None and not isinstance(error, UserError | FileNotFoundError):
        error = error.__cause__
    return error


def _last_line(error: BaseException) -> str:
    """An error's message; of one of a DataLoader's worker, which holds a traceback, its end."""
    kind = type(error)
    return str(error).rstrip().rpartition("\n")[2].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")


def _advertises_nothing(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
