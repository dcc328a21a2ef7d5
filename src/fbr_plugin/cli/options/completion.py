"""Completion of commands and options in the shell, by argcomplete."""

import argparse
import os
from collections.abc import Iterable, Mapping


def words_to_complete(commands: Mapping[str, str], nested: Iterable[str]) -> list[str]:
    """The command whose options the shell asks for; its parser completes them. Commands are completed here.

    Args:
        commands: names and descriptions.
        nested: commands whose parser has them as subcommands.
    """
    import argcomplete

    typed = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    before = typed.split()[1:] if typed[-1:].isspace() else typed.split()[1:-1]
    if before and before[0] in commands:
        if before[0] not in nested:
            os.environ["_ARGCOMPLETE"] = "2"  # the name of the program has two words
        return before[:1]
    parser = argparse.ArgumentParser(prog="fbr-plugin")
    names = parser.add_subparsers()
    for name, what in commands.items():
        names.add_parser(name, help=what)
    parser.add_argument("--version", action="store_true")
    argcomplete.autocomplete(parser)
    return []
