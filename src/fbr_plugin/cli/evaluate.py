"""`fbr-plugin evaluate`: score masks, seeds or instances from any tool."""

from jsonargparse import auto_cli

from fbr_plugin.postprocess.evaluate import evaluate, evaluation_table
from fbr_plugin.postprocess.instances.evaluate import instance_table, score_instances


def run(words: list[str]) -> None:
    """Score predictions and print the table.

    Args:
        words: the command's name, optionally `instances`, and its options.
    """
    program = "fbr-plugin evaluate"
    # allow_abbrev: --list for --list_file
    if words[1:2] == ["instances"]:
        program += " instances"
        found = auto_cli(
            score_instances, as_positional=False, args=words[2:], prog=program, allow_abbrev=True
        )
        print(instance_table(found))
    else:
        scores = auto_cli(evaluate, as_positional=False, args=words[1:], prog=program, allow_abbrev=True)
        print(evaluation_table(scores))
