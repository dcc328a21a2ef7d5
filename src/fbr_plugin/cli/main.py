"""The entry point: it finds the command, and turns a mistake in the input into one line."""

import logging
import os
import sys
import traceback
import warnings
from importlib import import_module
from pathlib import Path

import fbr_plugin
from fbr_plugin import baselines

# Commands with a file of their own in this folder; Lightning's subcommands share `lightning`.
COMMANDS = ("pipeline", "evaluate", "export", "demo")
OUR_FOLDERS = tuple(str(Path(module.__file__ or "").parent) for module in (fbr_plugin, baselines))


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
        complaint = _complaint(error)
        if args is not None or complaint is None:
            raise
        sys.exit(f"error: {complaint}")


def _complaint(error: BaseException | None) -> BaseException | None:
    """What our own code raised about its input, or a file that is missing; None for any other error."""
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = bool(frames) and frames[-1].filename.startswith(OUR_FOLDERS)
        if isinstance(error, FileNotFoundError) or (ours and (frames[-1].line or "").startswith("raise ")):
            return error
        error = error.__cause__
    return None


def _advertises_nothing(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
