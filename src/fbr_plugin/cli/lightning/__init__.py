"""Lightning's subcommands: fit, validate, test and predict."""

from fbr_plugin.cli.lightning.command_line import CommandLine, run

__all__ = ["CommandLine", "run"]
