"""The parser of the commands' options, which reports a mistake in one line."""

from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from fbr_plugin.cli.options.one_line import one_line


class Parser(ArgumentParser):
    """jsonargparse's parser; a mistake ends the process with one line and status 2, without the usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report a mistake, or raise it as `ArgumentError` with `exit_on_error=False`."""
        if not self.exit_on_error:
            super().error(message, ex)
        commands = self._subcommands_action
        (parser,) = commands.choices.values() if commands and len(commands.choices) == 1 else (self,)
        self.exit(2, f"error: {one_line(message, parser)}\n")


def given(parser: Parser, words: list[str]) -> dict[str, Any]:
    """The options that have a value, by name, for a function with a default for each of the others."""
    return {name: value for name, value in parser.parse_args(words).items() if value is not None}
