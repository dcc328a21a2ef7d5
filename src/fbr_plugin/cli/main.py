"""The entry point, which runs a command and reports a user's mistake in one line."""

import io
import logging
import os
import re
import signal
import sys
import warnings
from argparse import ArgumentError
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

import fbr_plugin
from fbr_plugin.cli.options.completion import words_to_complete
from fbr_plugin.cli.options.configs import find_configs
from fbr_plugin.errors import DISK, OUT_OF_MEMORY, UserError

# What libraries warn of that is no mistake of a user, by the words of the message.
NOISE = (
    "isinstance.treespec, LeafSpec",
    "The dirpath has changed from",
    "LightningCLI's args parameter",
    "does not have many workers",
    "smaller than the logging interval",
)

# PyTorch's errors when there is too little memory, and what to do.
MEMORY = {
    r"DataLoader worker .*(exited unexpectedly|is killed by signal)": "a data worker was ended from outside, "
    "most likely as memory or shared memory (/dev/shm) ran out: lower loading.num_workers or batch_size, or "
    "give the machine or container more of them",
    OUT_OF_MEMORY: "the memory does not suffice: lower "
    "loading.batch_size or augmentation.crop_size, or outside training loading.eval_batch_size or max_size",
}

# Lightning's subcommands share `lightning`; every other command has a file of its own in this folder.
LIGHTNING = ("fit", "validate", "test", "predict")
COMMANDS = {
    "fit": "train a model in a folder of its own, runs/MODEL/TIME",
    "validate": "score seeds or masks of the validation images without writing files",
    "test": "score seeds or masks of the test images without writing files",
    "predict": "write seeds, labels, masks or instances",
    "pipeline": "run all stages from image labels to scored masks, of classes and of instances",
    "sweep": "train settings with the same seeds and compare them",
    "evaluate": "score seeds, masks or instances of any tool",
    "compare": "show folders of seeds or masks side by side, with the IoU of each image",
    "browse": "write a page that shows runs side by side, to open in a browser",
    "export": "convert seeds between layouts; pack masks and instances for servers",
    "doctor": "check the lists, labels, photos and masks of a data set, with a remedy for each fault",
    "labels": "make labels.csv from masks, XML, COCO's JSON, tables or folders",
    "import-weights": "convert released checkpoints to files that our models load",
    "demo": "show in minutes what FBR and the gate do to a baseline",
}
HELP = """usage: fbr-plugin COMMAND [OPTIONS]

Weakly supervised segmentation with fine-grained background representation (FBR): train baselines with or
without FBR, write their seeds, and score them.

commands:
{commands}

options:
  -h, --help      this page; `fbr-plugin COMMAND --help` explains the options of a command
  --version       print the version"""


def main(args: list[str] | None = None) -> None:
    """Run a command line.

    Args:
        args: the words after `fbr-plugin`; None uses those of the shell, and prints a user's mistake as one
            line instead of a traceback.
    """
    # Lightning advertises other packages, advises on speed and logging, and warns of its own use of torch, of
    # a run's own folder and of how it is called here.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_advertises_nothing)
    for known in NOISE:
        warnings.filterwarnings("ignore", f".*{known}")
    # Lightning calls what jsonargparse has renamed.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names and tables have letters that LANG=C cannot print
    if int(os.environ.get("LOCAL_RANK", 0)):
        from fbr_plugin.processes import end_with_launcher

        end_with_launcher()
    sys.path.append(os.getcwd())  # to find your own classes, as `python -m fbr_plugin` does
    words = sys.argv[1:] if args is None else args
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        words = words_to_complete(COMMANDS)
    command = _command(words)
    try:
        words = [*find_configs(words)]
    except UserError as error:
        _fail(f"--config: {error}")
    from fbr_plugin.cli.options.names import wrong_option  # imports jsonargparse, as every command does

    if wrong := wrong_option(words):
        _fail(wrong)
    try:
        import_module(f"fbr_plugin.cli.{command}").run(words)
        sys.stdout.flush()
    except ArgumentError as error:
        from fbr_plugin.cli.options.parser import Parser, one_line

        _fail(one_line(str(error), Parser(prog=f"fbr-plugin {words[0]}")))
    except KeyboardInterrupt:
        if args is not None:
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one is not to break the end of this process
        sys.exit("interrupted")
    except BrokenPipeError:  # whatever read the output, such as `head`, has ended
        if args is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes at its end
        sys.exit(1)
    except Exception as error:
        line = _line(error)
        if args is not None or line is None:
            raise
        sys.exit(f"error: {line}")


def _command(words: list[str]) -> str:
    """The module that runs a command line; what needs no command is answered here."""
    word = words[0] if words else ""
    if word in ("-h", "--help"):
        lines = "\n".join(f"  {name:16}{what}" for name, what in COMMANDS.items())
        print(HELP.format(commands=lines))
        sys.exit(0)
    if word == "--version":
        print(f"fbr-plugin {fbr_plugin.__version__}")
        sys.exit(0)
    if word in COMMANDS:
        return "lightning" if word in LIGHTNING else word.replace("-", "_")
    if not word:
        _fail(f"name a command: {', '.join(COMMANDS)}; see fbr-plugin --help")
    if word.startswith("-"):
        _fail(f"{word} comes before the command: give the command first; see fbr-plugin --help")
    close = get_close_matches(word, COMMANDS, 1)
    remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(COMMANDS)}"
    _fail(f"unknown command {word}; {remedy}")


def _fail(message: str) -> NoReturn:
    """End with the status of a wrong command line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _line(error: BaseException | None) -> str | None:
    """What to say of an error in one line; None where it is neither a user's mistake nor the machine's."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK and error.filename:
            return f"{error.filename}: {DISK[error.errno]}, and start again: what is finished is kept"
        if isinstance(error, UserError | FileNotFoundError):
            return _last_line(error)
        if isinstance(error, RuntimeError):
            for known, remedy in MEMORY.items():
                if re.search(known, str(error)):
                    return remedy
        error = error.__cause__
    return None


def _last_line(error: BaseException) -> str:
    """The last line of an error's message, which skips the traceback in that of a DataLoader's worker."""
    kind = type(error)
    return str(error).rstrip().rpartition("\n")[2].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")


def _advertises_nothing(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()
