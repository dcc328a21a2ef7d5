"""The recipes of the examples, each with the files of settings that the command in its head names."""

import re
from functools import cache
from typing import Any

import pytorch_lightning as pl
from helpers.tiny import EXAMPLES
from jsonargparse import ArgumentParser

from fbr_plugin.pipeline.settings import TRAININGS, parser

FOLDER = EXAMPLES / "recipes"
RECIPES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
PIPELINES = [name for name in RECIPES if not name.startswith("wsol/")]
LOCALIZATIONS = [name for name in RECIPES if name.startswith("wsol/")]


def head(recipe: str) -> str:
    """The comment at the top of a recipe."""
    lines = (FOLDER / f"{recipe}.yaml").read_text().splitlines()
    return "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


def configs(recipe: str) -> list[object]:
    """The words `--config FILE` of a recipe's command."""
    files = dict.fromkeys(re.findall(r"--config examples/recipes/(\S+)", head(recipe)))
    return [word for file in files for word in ("--config", FOLDER / file)]


@cache
def settings(recipe: str) -> dict[str, Any]:
    """All settings of a recipe, as the command line reads them."""
    built = parser() if recipe in PIPELINES else training_parser()
    found: dict[str, Any] = built.parse_args([str(word) for word in configs(recipe)]).as_dict()
    return found


def trainings(recipe: str) -> dict[str, dict[str, Any]]:
    """The trainings of a recipe by name: model, and the arguments of its data and of the Trainer."""
    found = settings(recipe)
    data = found["data"]["init_args"]
    if recipe in LOCALIZATIONS:
        return {"model": {"model": found["model"], "data": data, "trainer": found["trainer"]}}
    sections = {name: found[name] for name in TRAININGS if found[name]["model"]}
    return {name: {**section, "data": _merged(data, section["data"])} for name, section in sections.items()}


def training_parser() -> ArgumentParser:
    """A parser of the settings of `fbr-plugin fit` that decide a training."""
    built = ArgumentParser(exit_on_error=False)
    built.add_argument("--config", action="config")
    built.add_argument("--seed_everything", type=int, default=0)
    built.add_subclass_arguments(pl.LightningModule, "model")
    built.add_subclass_arguments(pl.LightningDataModule, "data")
    built.add_class_arguments(pl.Trainer, "trainer", instantiate=False)
    return built


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {
        name: {**common[name], **own[name]}
        for name in own
        if isinstance(common.get(name), dict) and isinstance(own[name], dict)
    }
    return {**common, **own, **both}
