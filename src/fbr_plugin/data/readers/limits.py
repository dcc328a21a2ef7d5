"""What a file may hold or name, so that a damaged one neither fills the memory nor leads elsewhere."""

import os

from fbr_plugin.errors import InputError, short

MAX_PIXELS = "FBR_MAX_PIXELS"
"""The environment variable with the largest number of pixels of an image, for all commands and processes."""

_PIXELS = 100_000_000  # without it: as many as large cameras have
_LONGEST_NAME = 200  # bytes, so that there is room for a suffix


def check_pixels(where: object, width: int, height: int) -> None:
    """Raise `InputError` for an image of more pixels than `MAX_PIXELS` allows; `where` names it in errors."""
    given = os.environ.get(MAX_PIXELS, str(_PIXELS))
    if not given.isdecimal():
        raise InputError(f"the environment variable {MAX_PIXELS} is {given!r}: give a whole number")
    if width * height > int(given):
        raise InputError(
            f"{where} is {width}x{height} pixels, more than {int(given)}: shrink it, or allow as many by the "
            f"environment variable {MAX_PIXELS}={width * height}"
        )


def check_name(where: object, name: str) -> str:
    """An image's name from a file, whose parts between `/` can be names of files and lead to no other folder.

    Args:
        where: the file that names it, for errors.
        name: of the image.
    """
    if not all(map(is_file_name, name.split("/"))):
        raise InputError(
            f"{where} names the image {short(repr(name))}, which cannot be a file in its folder: correct it"
        )
    return name


def is_file_name(name: str) -> bool:
    """Whether a name can be that of a file in any folder, with a suffix added."""
    try:
        is_short = len(name.encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:  # half of a pair of surrogates, as JSON can write
        return False
    wrong = any(letter in "/\x7f" or letter < " " for letter in name)
    return is_short and not wrong and {"", ".", ".."}.isdisjoint(name.split("\\"))  # of folders on Windows
