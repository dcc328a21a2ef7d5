"""Completion of commands and options in the shell, by argcomplete."""

import argparse
import os
from collections.abc import Mapping, Sequence

from fbr_plugin.cli.options.configs import find_configs
from fbr_plugin.errors import UserError


def words_to_complete(commands: Mapping[str, str]) -> list[str]:
    """The command whose options the shell asks for and whose own parser completes them.

    All others are completed here: commands, and what the table of names has, so that PyTorch is not imported.

    Args:
        commands: names and descriptions.
    """
    import argcomplete

    from fbr_plugin.cli.options.names import read_names

    typed = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    before = typed.split()[1:] if typed[-1:].isspace() else typed.split()[1:-1]
    if before and before[0] in commands:
        os.environ["_ARGCOMPLETE"] = "2"  # the name of the program has two words
        if before[0] not in read_names()["commands"]:
            return before[:1]
        argcomplete.autocomplete(_parser(before), always_complete_options=False)
    parser = argparse.ArgumentParser(prog="fbr-plugin")
    names = parser.add_subparsers()
    for name, what in commands.items():
        names.add_parser(name, help=what)
    parser.add_argument("--version", action="store_true")
    argcomplete.autocomplete(parser)
    return []


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """A parser of nothing but names, for a command and the options before the one that is completed."""
    from fbr_plugin.cli.options.names import class_options, names_to_complete, read_names

    command = words[0]
    try:
        words = [*find_configs(words)]
    except UserError:
        words = [command]
    names = names_to_complete(words)
    values = {f"--{key}": [*read_names()[key.rpartition(".")[2]]] for key in class_options(names)}
    for option, choices in read_names()["choices"].items():
        if option.startswith(f"{command} "):
            values[option.removeprefix(f"{command} ")] = choices
    parser = argparse.ArgumentParser(prog=f"fbr-plugin {command}", add_help=False)
    for option in dict.fromkeys([*values, *(f"--{name}" for name in names)]):
        parser.add_argument(option, nargs="?", choices=values.get(option))
    return parser
