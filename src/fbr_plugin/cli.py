"""The console script `fbr-plugin`: Lightning's subcommands, `evaluate` and `demo`."""

import os
import sys
import warnings
from datetime import datetime
from pathlib import Path

from jsonargparse import Namespace, auto_cli
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger

import baselines  # noqa: F401 (class names on the command line are looked up among imported classes)
import fbr_plugin.data  # noqa: F401
from fbr_plugin.demo import demo
from fbr_plugin.pipeline.evaluate import evaluate, format_table
from fbr_plugin.training.callbacks import FBRFigures
from fbr_plugin.training.random_state import RandomState
from fbr_plugin.training.seed_writer import SeedWriter

CSV_LOGGER = "pytorch_lightning.loggers.CSVLogger"
RUN_FOLDER = "FBR_PLUGIN_RUN_FOLDER"
EPILOG = """
further commands, each with --help:
  fbr-plugin evaluate   score masks or seeds of any tool against true masks
  fbr-plugin demo       CAM, AMN and AMN + FBR on drawn scenes or one's own photos, in minutes
"""


class CommandLine(LightningCLI):
    """Lightning's command line, with a folder for each run, FBR's figures, exact resume and seed files."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of the figures, and to `predict` those of its files."""
        parser.add_lightning_class_args(FBRFigures, "figures")
        if parser.prog == "predict":
            parser.add_class_arguments(SeedWriter, skip={"thresholds"}, instantiate=False)
            parser.add_argument(
                "--thresholds",
                nargs=2,
                type=float,
                metavar=("FG", "BG"),
                help="write label PNGs instead of seeds: the class above FG, 0 below BG, 255 in between",
            )

    def before_instantiate_classes(self) -> None:
        """Give the run a folder of its own, and its loggers a place there."""
        config = self.config[self.subcommand]
        folder = config.trainer.default_root_dir or _run_folder(config.model.class_path)
        config.trainer.default_root_dir = folder
        if config.trainer.logger in (None, True):
            plain = Namespace(save_dir=folder, name="", version="")
            config.trainer.logger = Namespace(class_path=CSV_LOGGER, init_args=plain)
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if logger and logger.init_args.get("save_dir") in (None, "."):
                logger.init_args.save_dir = folder

    def before_fit(self) -> None:
        """Leave out a logger that cannot start: training goes on."""
        self.trainer.loggers = [logger for logger in self.trainer.loggers if _starts(logger)]

    def before_predict(self) -> None:
        """Write what is predicted."""
        config = self.config_init.predict
        config.return_predictions = False  # they are written as they come; a whole set would fill the memory
        thresholds = tuple(config.thresholds) if config.thresholds else None
        writer = SeedWriter(config.output_dir, config.format, thresholds)
        self.trainer.callbacks.append(writer)  # type: ignore[attr-defined]


def _starts(logger: Logger) -> bool:
    """Whether a logger starts; warns where it does not."""
    try:
        getattr(logger, "experiment", None)
    except Exception as error:
        warnings.warn(f"{type(logger).__name__} could not start and is left out: {error}", stacklevel=2)
        return False
    return True


def _run_folder(class_path: str) -> str:
    """A new folder `runs/<model>/<time>`; a process that a strategy starts takes that of its parent."""
    if "LOCAL_RANK" in os.environ and RUN_FOLDER in os.environ:
        return os.environ[RUN_FOLDER]
    parent = Path("runs", class_path.rpartition(".")[-1])
    name = base = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while (parent / name).exists():
        number += 1
        name = f"{base}_{number}"
    os.environ[RUN_FOLDER] = str(parent / name)
    return os.environ[RUN_FOLDER]


def main(args: ArgsType = None) -> None:
    """Run a command line; `args` replaces `sys.argv[1:]`."""
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list) and words[:1] == ["demo"]:
        auto_cli(demo, args=words[1:], prog="fbr-plugin demo")
        return
    if isinstance(words, list) and words[:1] == ["evaluate"]:
        result = auto_cli(evaluate, as_positional=False, args=words[1:], prog="fbr-plugin evaluate")
        print(format_table(result))
        return
    CommandLine(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={"callbacks": [RandomState()]},
        parser_kwargs={"prog": "fbr-plugin", "epilog": EPILOG, "predict": {"prog": "predict"}},
        args=args,
    )
