"""The runs of a sweep: the classifier of each seed, and every arm with every seed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbr_plugin.data.readers.files import read_json
from fbr_plugin.errors import InputError, UserError, short
from fbr_plugin.experiments.results import REMEDY, known
from fbr_plugin.experiments.sweep.settings import Classifier, Sweep, folder_name, options
from fbr_plugin.pipeline.record import first_change
from fbr_plugin.pipeline.training import SHOWN, data_files

CHECKPOINT, LABELS, RESULT = "model.ckpt", "labels", "result.json"
# A sweep scores the last weights by `test`. The files of its trainings may say otherwise.
DEFAULTS = {
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
    "trainer.enable_checkpointing": False,
    "trainer.limit_val_batches": 0,
}
# Of the Trainer, what no result depends on.
PLACE = {*SHOWN, "default_root_dir", "accelerator", "devices", "enable_checkpointing"}

ReadSettings = Callable[[list[str]], dict[str, Any]]
"""From options of `fbr-plugin fit` to all settings of the training; raises `UserError`."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        arm: name of the arm; None for the classifier.
        seed: random seed.
        folder: of its result, its logs and whatever else it writes.
        words: options of `fbr-plugin fit`.
        key: everything that determines its result; JSON.
        labels: thresholds of the labels that a classifier makes.
        after: folder of the classifier that an arm starts from.
    """

    arm: str | None
    seed: int
    folder: Path
    words: list[str]
    key: dict[str, Any]
    labels: tuple[float, float] | None = None
    after: Path | None = None

    @property
    def title(self) -> str:
        """The arm and the seed."""
        return f"{self.arm or 'classifier'}, seed {self.seed}"

    def result(self) -> dict[str, Any] | None:
        """The result that an earlier call kept, if there is one."""
        path = self.folder / RESULT
        found = known(path, self.key)
        scores = {} if found is None else found.get("scores")
        if not isinstance(scores, dict) or not all(isinstance(each, int | float) for each in scores.values()):
            raise InputError(f"{path} holds no scores: {REMEDY} again")
        return found


class _Training:
    """A training without its seed: its options, and all of its settings."""

    def __init__(self, name: str, path: str, own: list[str], start: list[str], read: ReadSettings) -> None:
        self.common, self.own = [*options(DEFAULTS), "--config", path], own
        try:
            settings = read([*self.common, *start, *own])
        except UserError as error:
            raise InputError(f"{name} cannot be trained: {error}") from error
        trainer = {flag: value for flag, value in settings["trainer"].items() if flag not in PLACE}
        ignored = {"config", "figures", "trainer"}
        kept = {key: value for key, value in settings.items() if key not in ignored}
        if settings["data"]:
            kept["files"] = data_files(settings["data"])
        self.settings: dict[str, Any] = json.loads(json.dumps({**kept, "trainer": trainer}, default=str))

    def words(self, seed: int, start: list[str]) -> list[str]:
        """The options with a seed, and with what the training starts from."""
        seeds = {"seed_everything": seed}
        data = self.settings["data"] or {}
        if "seed" in (data.get("init_args", {}).get("loading") or {}):
            seeds["data.loading.seed"] = seed
        return [*self.common, *start, *options(seeds), *self.own]


def plan(sweep: Sweep, output: Path, read: ReadSettings) -> list[Run]:
    """The runs of a sweep, seed by seed.

    Args:
        sweep: the settings.
        output: folder of all runs.
        read: reads the settings of a training.

    Raises:
        ValueError: settings that the training does not have, two arms of the same settings, or a folder
            with results of other settings.
    """
    first, before, labels = sweep.classifier, None, None
    if first is not None:
        own = options(first.settings)
        before, labels = _Training("the classifier", first.training.absolute, own, [], read), first.labels
    arms = {}
    for name, settings in sweep.all_arms().items():
        own = [*options(sweep.settings), *options(settings)]
        start = _start(first, Path("classifier"))
        arms[name] = _Training(f"arm {name!r}", sweep.training.absolute, own, start, read)
    _check_different({name: training.settings for name, training in arms.items()})
    runs = []
    for seed in sweep.seeds:
        key: dict[str, Any] = {"seed": seed}
        folder = output / "classifier" / f"seed_{seed}"
        if before is not None:
            key |= {"classifier": before.settings, "labels": labels}
            runs.append(Run(None, seed, folder, before.words(seed, []), dict(key), labels))
        for name, training in arms.items():
            words = training.words(seed, _start(first, folder))
            place = output / "arms" / folder_name(name) / f"seed_{seed}"
            own_key = {**key, "arm": training.settings}
            runs.append(Run(name, seed, place, words, own_key, after=folder if before else None))
    for run in runs:
        _check_unchanged(run)
    return runs


def _start(classifier: Classifier | None, folder: Path) -> list[str]:
    """The options of an arm that starts from the classifier in a folder."""
    if classifier is None:
        return []
    labels = {"data.pseudo_label_dir": str(folder / LABELS)} if classifier.labels else {}
    return options({"model.weights": str(folder / CHECKPOINT), **labels})


def _check_different(settings: Mapping[str, dict[str, Any]]) -> None:
    """Raise if two arms have the same settings."""
    seen: dict[str, str] = {}
    for name, own in settings.items():
        if (other := seen.setdefault(json.dumps(own, sort_keys=True), name)) != name:
            raise InputError(f"arms {other!r} and {name!r} have the same settings: leave one of them out")


def _check_unchanged(run: Run) -> None:
    """Raise if a run's folder has the result of other settings."""
    path = run.folder / RESULT
    if path.exists() and run.result() is None:
        kept, now = read_json(path, REMEDY)["key"], json.loads(json.dumps(run.key))
        change = first_change({"inputs": {}, "settings": kept}, {"inputs": {}, "settings": now})
        raise InputError(
            f"{run.folder} has the result of other settings or files: {short(change)}; give another "
            "--output, or remove this folder"
        )
