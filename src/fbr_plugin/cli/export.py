"""`fbr-plugin export`: convert masks or seeds to another format."""

from jsonargparse import auto_cli

from fbr_plugin.postprocess.exports import export


def run(words: list[str]) -> None:
    """Write the files and print where they are.

    Args:
        words: the command's name and its options.
    """
    # allow_abbrev: --list for --list_file
    written = auto_cli(
        export, as_positional=False, args=words[1:], prog="fbr-plugin export", allow_abbrev=True
    )
    print(f"written: {written}")
