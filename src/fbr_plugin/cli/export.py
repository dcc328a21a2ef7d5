"""`fbr-plugin export`: write masks or seeds in another form."""

from jsonargparse import auto_cli

from fbr_plugin.postprocess.exports import export


def run(words: list[str]) -> None:
    """Write the files and say where they are.

    Args:
        words: the command's name and its options.
    """
    # allow_abbrev: --list for --list_file
    written = auto_cli(
        export, as_positional=False, args=words[1:], prog="fbr-plugin export", allow_abbrev=True
    )
    print(f"written: {written}")
