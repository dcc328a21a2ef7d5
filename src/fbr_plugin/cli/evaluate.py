"""`fbr-plugin evaluate`: score masks or seeds from any tool."""

from jsonargparse import auto_cli

from fbr_plugin.postprocess.evaluate import evaluate, evaluation_table


def run(words: list[str]) -> None:
    """Score predictions and print the table.

    Args:
        words: the command's name and its options.
    """
    # allow_abbrev: --list for --list_file
    scores = auto_cli(
        evaluate, as_positional=False, args=words[1:], prog="fbr-plugin evaluate", allow_abbrev=True
    )
    print(evaluation_table(scores))
