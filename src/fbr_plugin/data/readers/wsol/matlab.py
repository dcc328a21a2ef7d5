"""MATLAB's files, in which Stanford's data sets keep their lists."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from fbr_plugin.errors import InputError, MissingFileError


def read_matlab(path: Path, *names: str) -> list[NDArray[Any]]:
    """Variables of a MATLAB file as arrays [n] of numbers, of strings, or of a dictionary for each struct.

    Args:
        path: a file in the format of MATLAB 5 to 7.2.
        names: the variables, in the order in which they are returned.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: download it with the images, and unpack it there")
    try:
        content = loadmat(path, variable_names=names, simplify_cells=True)
    except Exception as error:
        raise InputError(f"{path} is not a file of MATLAB ({error}): copy it again") from error
    if missing := [name for name in names if name not in content]:
        raise InputError(f"{path} has no variable {missing[0]}: is it another list's file?")
    return [np.atleast_1d(np.asarray(content[name])) for name in names]
