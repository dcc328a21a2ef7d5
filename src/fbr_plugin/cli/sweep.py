"""`fbr-plugin sweep`: paired trainings over any settings, on several devices, kept run by run."""

import logging
import os
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from pytorch_lightning.loggers import WandbLogger
from tqdm import tqdm

from fbr_plugin.callbacks.loggers.wandb_run import end_run
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.cli import lightning
from fbr_plugin.cli.options.configs import find_config
from fbr_plugin.cli.options.one_line import one_line
from fbr_plugin.errors import InputError, short
from fbr_plugin.experiments.sweep import report
from fbr_plugin.experiments.sweep.plan import CHECKPOINT, LABELS, Run, plan
from fbr_plugin.experiments.sweep.schedule import train_all
from fbr_plugin.experiments.sweep.settings import Sweep
from fbr_plugin.experiments.sweep.settings import options as words_of
from fbr_plugin.files import write_text
from fbr_plugin.pipeline.cache import alone

DESCRIPTION = (
    "Compare arms of a training: lists and grids over any of its settings, each arm with the same random "
    "seeds. Runs are spread over devices and kept as they end; the same command continues an interrupted "
    "sweep. The table has means, 95% confidence intervals, and paired differences to a reference arm."
)


USAGE = "fbr-plugin sweep FILE [--NAME VALUE ...]"


class Parsed(lightning.CommandLine):
    """The parsed settings of a training; nothing is built or run."""

    def _set_seed(self) -> None:
        pass

    def before_instantiate_classes(self) -> None:
        """Make no folder."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def after_instantiate_classes(self) -> None:
        """Change nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


class Trained(lightning.CommandLine):
    """A training that prints no report of its own."""

    def after_fit(self) -> None:
        """Print nothing."""


def read_training(words: list[str]) -> dict[str, Any]:
    """All settings of a training, from options of `fbr-plugin fit`.

    Raises:
        ValueError: a setting that the training does not have, or a value that does not suit it.
    """
    try:
        line = lightning.run(["fit", *words], Parsed, exit_on_error=False)
    except ArgumentError as error:
        raise InputError(one_line(str(error), ArgumentParser(prog="fbr-plugin fit"))) from error
    settings: dict[str, Any] = line.config.fit.as_dict()
    return settings


def train(run: Run, device: str, group: str) -> dict[str, float]:
    """Train a run on a device; return the figures that `test` logs for the trained network.

    Args:
        run: of an arm, or of the classifier.
        device: cpu, mps or cuda:NUMBER.
        group: of the run in Weights & Biases.
    """
    os.environ.setdefault("WANDB_RUN_GROUP", group)
    os.environ["WANDB_NAME"] = run.title
    kind, _, number = device.partition(":")
    if kind == "cpu":
        torch.set_num_threads(1)
    place = {
        "trainer.accelerator": kind,
        "trainer.devices": [int(number)] if number else 1,
        "trainer.default_root_dir": str(run.folder),
    }
    line = lightning.run(["fit", *run.words, *words_of(place)], Trained, exit_on_error=False)
    trainer, model, data = line.trainer, line.model, line.datamodule
    found = trainer.test(model, data, verbose=False)
    if run.arm is None:
        trainer.save_checkpoint(run.folder / CHECKPOINT)
    if run.labels is not None:
        writer = SeedWriter(run.folder / LABELS, thresholds=run.labels)
        trainer.callbacks.append(writer)  # type: ignore[attr-defined]
        trainer.predict(model, data, return_predictions=False)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            end_run(logger)
    return {name.removeprefix("test/"): value for each in found for name, value in each.items()}


def run(words: list[str]) -> None:
    """Run a sweep, print its table and write its files.

    Args:
        words: the command's name, FILE, and options.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    given = _parse(words[1:])
    sweep = Sweep(**{field.name: given[field.name] for field in fields(Sweep)})
    output = sweep.output or Path("runs", "sweep", Path(words[1]).stem)
    runs = plan(sweep, output, read_training)
    if given.dry_run:
        for each in runs:
            print(f"{'done' if each.result() else 'to do':8}{each.title}")
        return
    with alone(output):
        scores = _all_scores(runs, sweep, output)
        reference = sweep.reference_arm()
        text = report.table(scores, reference, sweep.metrics)
        write_text(output / "table.txt", text + "\n")
        write_text(output / "table.csv", report.table_csv(scores, reference))
        write_text(output / "runs.csv", report.runs_csv(scores))
    print(f"\n{text}\n\ntable.txt, table.csv, runs.csv and a folder for each run: {output}")


def parser() -> ArgumentParser:
    """The parser of the command; --file is FILE."""
    result = ArgumentParser(
        prog="fbr-plugin sweep", usage=USAGE, description=DESCRIPTION, exit_on_error=False
    )
    result.add_argument("--file", action="config", help="FILE, a YAML file of the settings below")
    result.add_class_arguments(Sweep)
    result.add_argument("--dry-run", action="store_true", help="print the runs, and which of them are done")
    return result


def _parse(words: list[str]) -> Namespace:
    """The settings of a sweep, from FILE and options."""
    options = parser()
    if not {"-h", "--help"} & {*words}:
        if not words or words[0].startswith("-"):
            raise InputError(f"name the file of the sweep: {USAGE}")
        words = ["--file", find_config(words[0]), *words[1:]]
    try:
        given: Namespace = options.instantiate(options.parse_args(words))
    except ArgumentError as error:
        raise InputError(f"{words[1]}: {short(one_line(str(error), options), 500)}") from error
    for training in (given.training, given.classifier and given.classifier.training):
        if training:
            find_config(training.absolute)  # raises where it has no settings
    return given


def _all_scores(runs: Sequence[Run], sweep: Sweep, output: Path) -> report.Scores:
    """The figures of all arms and seeds. What has no result is trained, and the progress is shown."""
    scores: dict[str, dict[int, dict[str, float]]] = {name: {} for name in sweep.all_arms()}
    done = {each.folder: result for each in runs if (result := each.result())}
    todo = [each for each in runs if each.folder not in done]
    print(f"{len(runs)} runs, {len(done)} of them done: {output}", flush=True)
    with tqdm(total=len(runs), initial=len(done), unit="run") as bar:
        for each, result in train_all(todo, partial(train, group=output.name), sweep.all_devices()):
            done[each.folder] = result
            if each.arm is not None:
                report.check_metrics(sweep.metrics, result["scores"])
            bar.write(
                f"{each.title}: {report.line(result['scores'], sweep.metrics)} ({result['seconds']:.0f} s)"
            )
            bar.update()
    for each in runs:
        if each.arm is not None:
            report.check_metrics(sweep.metrics, done[each.folder]["scores"])
            scores[each.arm][each.seed] = done[each.folder]["scores"]
    return scores
