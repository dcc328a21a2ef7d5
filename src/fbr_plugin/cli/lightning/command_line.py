"""Lightning's command line with our options and files."""

import re
import sys
import warnings
from pathlib import Path
from pydoc import locate
from typing import Any

from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from fbr_plugin.baselines.tasks.encoder_task import EncoderTask
from fbr_plugin.baselines.tasks.seed_task import SeedTask
from fbr_plugin.callbacks.checkpoints import save_whole
from fbr_plugin.callbacks.end_of_bar import EndOfBar
from fbr_plugin.callbacks.ends.interruption import InterruptionCheckpoint
from fbr_plugin.callbacks.ends.sigterm import EndAtSigterm
from fbr_plugin.callbacks.exact_resume import ExactResume
from fbr_plugin.callbacks.fbr_figures import FBRFigures
from fbr_plugin.callbacks.localization_figure import LocalizationFigure
from fbr_plugin.callbacks.loggers.guard import guard
from fbr_plugin.callbacks.loggers.wandb_run import WandbRun
from fbr_plugin.callbacks.score_figures import ScoreFigures
from fbr_plugin.callbacks.seed_calibrator import SeedCalibrator
from fbr_plugin.cli.lightning.callbacks import run_callbacks
from fbr_plugin.cli.lightning.checkpoint_settings import checkpoint_settings
from fbr_plugin.cli.lightning.classes import num_classes
from fbr_plugin.cli.lightning.report import fit_report, predict_report
from fbr_plugin.cli.lightning.run_folder import run_folder
from fbr_plugin.cli.lightning.writer import add_writer_options, prediction_writers
from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.contract import NamedClasses
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.errors import InputError
from fbr_plugin.pipeline.settings import with_save_dir
from fbr_plugin.presets import all_fields
from fbr_plugin.training.mixin import FBRMixin

CSV_LOGGER = "pytorch_lightning.loggers.CSVLogger"
CALIBRATE = (
    "also score the seeds at the background threshold that the masks of these images choose: the name of a "
    "list of the data, or a text file of ids"
)


class LightningParser(Parser, LightningArgumentParser):
    """Lightning's parser, which reports a mistake in one line."""


class CommandLine(LightningCLI):
    """Lightning's command line, with a folder for each run, FBR's figures, exact resume and seed files."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of figures and Weights & Biases, of calibration, and of the files of `predict`."""
        parser.add_lightning_class_args(FBRFigures, "figures")
        parser.add_lightning_class_args(WandbRun, "wandb")
        target = "model.init_args.num_classes"
        parser.link_arguments("data", target, compute_fn=self._classes, apply_on="instantiate")
        if parser.prog == "test":
            parser.add_argument("--calibrate", metavar="LIST", help=CALIBRATE)
        if parser.prog == "predict":
            add_writer_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments, and note which of the model's settings are on the command line itself."""
        words = with_save_dir(args if isinstance(args, list) else sys.argv[1:])
        super().parse_arguments(parser, words)
        named = (re.match(r"--model\.(?:init_args\.)?([\w.]+)", word) for word in words)
        self.typed = {match[1] for match in named if match}

    def _parse_ckpt_path(self) -> None:
        """Take the model's settings from its checkpoint, except those on the command line itself.

        In Lightning's version, the checkpoint has precedence, and one saved in Python fails.
        """
        subcommand = self.config.subcommand
        model, path = self.config[subcommand].model, self.config[subcommand].ckpt_path
        ours = isinstance(found := locate(model.class_path), type) and issubclass(found, EncoderTask)
        if path is None and subcommand != "fit" and ours:
            raise InputError(
                f"{subcommand} needs a trained network: give its checkpoint, --ckpt_path runs/.../FILE.ckpt"
            )
        if path and Path(path).is_file():
            settings = checkpoint_settings(path, model, self.typed, subcommand == "fit")
            update = {"model": {"class_path": model.class_path, "init_args": settings}}
            self.config = self.parser.parse_object({subcommand: update}, self.config)
        if isinstance(found, type) and issubclass(found, FBRMixin):
            given = self.config[subcommand].model.init_args
            given.update(Namespace(**all_fields(found, given.as_dict())))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer; raise if it does not take its arguments, such as a device that is absent."""
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise InputError(f"the Trainer cannot be built: {error}") from error

    def before_instantiate_classes(self) -> None:
        """Give the run its own folder, also for its loggers."""
        config = self.config[self.subcommand]
        folder = run_folder(config.trainer.default_root_dir, config.model.class_path)
        config.trainer.default_root_dir = folder
        if config.trainer.logger in (None, True):
            plain = Namespace(save_dir=folder, name="", version="")
            config.trainer.logger = Namespace(class_path=CSV_LOGGER, init_args=plain)
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if logger and logger.init_args.get("save_dir") in (None, "."):
                logger.init_args.save_dir = folder

    def _classes(self, data: LightningDataModule) -> int | None:
        return num_classes(data, self.config[self.subcommand].model.init_args)

    def after_instantiate_classes(self) -> None:
        """Survive loggers, plot scores, write checkpoints whole, and save any model's random state."""
        save_whole(guard(self.trainer))
        every = self.config[self.subcommand].figures.every_n_steps
        added: list[Callback] = [EndOfBar(), EndAtSigterm(), ScoreFigures(every)]
        if not isinstance(self.model, FBRMixin):  # which has its own
            added.append(ExactResume())
        self.interruption = InterruptionCheckpoint()
        added += [*run_callbacks(self.trainer, self.model), self.interruption]
        self.trainer.callbacks += added  # type: ignore[attr-defined]

    def after_fit(self) -> None:
        """Print the scores, and where the run's files are."""
        report = fit_report(self.trainer)  # on every process, as Lightning sends the folder's name around
        if is_rank_zero():
            print(f"\n{report}")
        self.interruption.finish()

    def before_test(self) -> None:
        """Calibrate a threshold, if asked for, and plot boxes, if the set has any."""
        config = self.config_init.test
        if config.calibrate:
            self._calibrate(config.calibrate, config.ckpt_path)
        self.trainer.callbacks.append(LocalizationFigure())  # type: ignore[attr-defined]

    def after_test(self) -> None:
        """Print the false positives by the names of the stuff, if the images have maps of it."""
        model, data = self.model, self.datamodule
        if isinstance(model, SeedTask) and isinstance(data, NamedClasses) and is_rank_zero():
            for line in model.scores.false_positives(data.class_names):
                print(line)

    def _calibrate(self, name: str, checkpoint: str | None) -> None:
        """Choose the threshold of a list's seeds with its masks, for the scores of the test."""
        model, data = self.model, self.datamodule
        if not isinstance(model, SeedTask) or not isinstance(data, WSSSDataModule):
            raise InputError(
                f"--calibrate {name} chooses a threshold of seeds: it needs a baseline such as CAM and a "
                f"data module of fbr_plugin.data, not {type(model).__name__} and {type(data).__name__}"
            )
        data.calibrate = name
        if is_rank_zero():
            data.prepare_data()
        images = data.calibration()
        calibrator = SeedCalibrator(images.source)
        self.trainer.callbacks.append(calibrator)  # type: ignore[attr-defined]
        loader = data.loader(images, data.loading.eval_batch_size)
        self.trainer.predict(model, loader, ckpt_path=checkpoint, return_predictions=False)
        self.trainer.callbacks.remove(calibrator)  # type: ignore[attr-defined]
        model.scores.calibration = calibrator.result()

    def before_predict(self) -> None:
        """Write the predictions to files."""
        config = self.config_init.predict
        config.return_predictions = False  # they are written to files; a whole set would fill the memory
        self.trainer.callbacks += prediction_writers(config)  # type: ignore[attr-defined]

    def after_predict(self) -> None:
        """Print where the files are."""
        config = self.config_init.predict
        if is_rank_zero():
            print(f"\n{predict_report(Path(config.output_dir), bool(config.thresholds))}")


def run(words: list[str], kind: type[CommandLine] = CommandLine, exit_on_error: bool = True) -> CommandLine:
    """Run one of Lightning's subcommands.

    Args:
        words: the subcommand and its options.
        kind: class of the command line.
        exit_on_error: whether a mistake in the options ends the process; else it raises `ArgumentError`.

    Returns:
        The command line, with its model, data module and trainer.
    """
    usage = "fbr-plugin {} [--config FILE] [--model CLASS] [--data CLASS] [--NAME VALUE ...]"
    common, known = {"exit_on_error": exit_on_error}, CommandLine.subcommands()
    # Building the parsers takes longest, so those of other subcommands are left out.
    needed = {name: known[name] for name in words[:1] if name in known} or known
    subcommands = {name: {"prog": name, "usage": usage.format(name), **common} for name in needed}
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended")  # as they are the shell's
    own = type(kind.__name__, (kind,), {"subcommands": staticmethod(lambda: needed)})
    line: CommandLine = own(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_class=LightningParser,
        parser_kwargs={"prog": "fbr-plugin", **common, **subcommands},
        args=words,
    )
    return line
