"""The entry point, which runs a command and reports a user's mistake in one line."""

import logging
import os
import sys
import warnings
from importlib import import_module

from fbr_plugin.errors import UserError

# Commands with their own file in this folder or in its folder `data`; those of Lightning share `lightning`.
COMMANDS = ("pipeline", "sweep", "evaluate", "compare", "export", "import-weights", "demo")
DATA_COMMANDS = ("doctor", "labels")


def main(args: list[str] | None = None) -> None:
    """Run a command line.

    Args:
        args: the words after `fbr-plugin`; None uses those of the shell, and prints a user's mistake as one
            line instead of a traceback.
    """
    # Lightning advertises other packages, and warns of its own use of torch, of a run's own folder and of how
    # it is called here.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_advertises_nothing)
    noise = ".*isinstance.treespec, LeafSpec", "The dirpath has changed from", "LightningCLI's args parameter"
    for known in noise:
        warnings.filterwarnings("ignore", known)
    sys.path.append(os.getcwd())  # to find your own classes, as `python -m fbr_plugin` does
    words = sys.argv[1:] if args is None else args
    command = words[0] if words and words[0] in (*COMMANDS, *DATA_COMMANDS) else "lightning"
    folder = "fbr_plugin.cli.data" if command in DATA_COMMANDS else "fbr_plugin.cli"
    try:
        import_module(f"{folder}.{command.replace('-', '_')}").run(words)
    except Exception as error:
        mistake = _mistake(error)
        if args is not None or mistake is None:
            raise
        sys.exit(f"error: {_last_line(mistake)}")


def _mistake(error: BaseException | None) -> BaseException | None:
    """The user's mistake or missing file that caused an error; None if there is none."""
    while error is not None and not isinstance(error, UserError | FileNotFoundError):
        error = error.__cause__
    return error


def _last_line(error: BaseException) -> str:
    """The last line of an error's message, which skips the traceback in that of a DataLoader's worker."""
    kind = type(error)
    return str(error).rstrip().rpartition("\n")[2].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")


def _advertises_nothing(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
