"""`python -m fbr_plugin.cli.options.make_names`: write names.json from the parsers of the commands."""

import json
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from jsonargparse import ArgumentParser
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser

from fbr_plugin import baselines, data
from fbr_plugin.cli import lightning
from fbr_plugin.cli.main import COMMANDS, LIGHTNING
from fbr_plugin.cli.options.names import FILE, trainer_arguments
from fbr_plugin.cli.options.one_line import option_names

WITHOUT_TORCH = ("evaluate", "export", "demo")  # whose own parsers answer as fast
KINDS = LightningModule, LightningDataModule
BASES = baselines.SeedTask, data.WSSSDataModule  # of which others are made


class _Built(Exception):
    """The parser of Lightning's commands."""

    def __init__(self, parser: ArgumentParser) -> None:
        self.parser = parser


class _Builder(lightning.CommandLine):
    """Builds the parser and runs nothing."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> NoReturn:
        raise _Built(parser)


def lightning_parser() -> ArgumentParser:
    """The parser of which Lightning's commands are subcommands."""
    try:
        lightning.run([], _Builder)
    except _Built as built:
        return built.parser
    raise AssertionError("Lightning's command line parses no arguments")


def build_parsers() -> dict[str, ArgumentParser]:
    """The parsers of the commands that need PyTorch."""
    others = {name for name in COMMANDS if name not in (*LIGHTNING, *WITHOUT_TORCH)}
    modules = {name: import_module(f"fbr_plugin.cli.{name.replace('-', '_')}") for name in sorted(others)}
    nested = lightning_parser()._subcommands_action
    return {
        **(nested.choices if nested else {}),
        **{name: module.parser() for name, module in modules.items()},
    }


def make_names(parsers: Mapping[str, ArgumentParser]) -> dict[str, dict[str, list[str]]]:
    """The table, as `names.read_names` returns it, of the commands with these parsers."""
    choices = {}
    for command, parser in parsers.items():
        for action in parser._actions:
            if isinstance(action.choices, list | tuple):
                choices[f"{command} {(action.option_strings or [action.dest])[-1]}"] = [*action.choices]
    commands = {command: _names(command, option_names(parser)) for command, parser in parsers.items()}
    return {"commands": commands, "choices": choices, "model": _settings(baselines), "data": _settings(data)}


def _settings(package: ModuleType) -> dict[str, list[str]]:
    """The names of the settings of a package's models or data modules, by import path."""
    result = {}
    for name in package.__all__:
        kind = vars(package)[name]
        if isinstance(kind, type) and issubclass(kind, KINDS) and kind not in BASES:
            parser = ArgumentParser(exit_on_error=False)
            parser.add_class_arguments(kind)
            result[f"{package.__name__}.{name}"] = option_names(parser)
    return result


def _names(command: str, names: list[str]) -> list[str]:
    """The names of a command's options, without the arguments of Lightning's Trainer."""
    names = [name for name in names if name != "print_shtab"]  # jsonargparse adds it to a parser in use
    if "trainer" in names:
        names = [name for name in names if not name.startswith("trainer.")]
        names.insert(names.index("trainer") + 1, "trainer.{__init__}")
    if command in LIGHTNING:
        names = [name for name in names if name not in trainer_arguments()[command]]
        names.append(f"{{{command}}}")
    return names


if __name__ == "__main__":
    FILE.write_text(json.dumps(make_names(build_parsers()), indent=1) + "\n")
