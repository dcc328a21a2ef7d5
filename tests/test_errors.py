"""The errors of a user's mistakes, the check of choices, and warnings that are given once."""

import pickle
import re
import warnings
from typing import Literal

import pytest

from fbr_plugin.errors import (
    DiskFullError,
    InputAttributeError,
    InputError,
    InputTypeError,
    MissingFileError,
    MissingPackageError,
    UsageError,
    UserError,
    WarnOnce,
    check_choice,
    check_label_thresholds,
    check_seeds,
)

KINDS = {
    InputError: ValueError,
    InputTypeError: TypeError,
    InputAttributeError: AttributeError,
    MissingFileError: FileNotFoundError,
    MissingPackageError: ImportError,
    DiskFullError: OSError,
    UsageError: RuntimeError,
}


@pytest.mark.parametrize(("kind", "builtin"), KINDS.items())
def test_each_is_the_builtin_of_its_kind_and_passes_between_processes(kind, builtin):
    back = pickle.loads(pickle.dumps(kind("seen: remedy")))
    assert type(back) is kind
    assert isinstance(back, UserError)
    assert isinstance(back, builtin)
    assert str(back) == "seen: remedy"


@pytest.mark.parametrize("choices", [Literal["a", "b", None], ("a", "b", None), {"a": 1, "b": 2, None: 3}])
def test_choices(choices):
    for value in ("a", "b", None):
        check_choice("letter", value, choices)
    with pytest.raises(InputError, match=r"^letter must be one of 'a', 'b', None, got 'c'$"):
        check_choice("letter", "c", choices)


def test_a_warning_is_given_once_by_each_and_survives_a_copy():
    warn, other = WarnOnce(), WarnOnce()
    with pytest.warns(UserWarning, match="first"):
        warn("first")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn("second")
        pickle.loads(pickle.dumps(warn))("third")
    with pytest.warns(UserWarning, match="fourth"):
        other("fourth")


@pytest.mark.parametrize(
    ("fg", "bg", "message"),
    [
        (30, 5, r"^fg must lie in \[0, 1\], as the scores of seeds do, got 30$"),
        (0.3, -1, r"^bg must lie in \[0, 1\], as the scores of seeds do, got -1$"),
        (float("nan"), 0.1, "^fg must lie in .* got nan$"),
        (0.1, 0.3, r"^fg \(0\.1\) is below bg \(0\.3\): swap them$"),
    ],
)
def test_thresholds_of_labels(fg, bg, message):
    with pytest.raises(InputError, match=message):
        check_label_thresholds(fg, bg)


@pytest.mark.parametrize("seeds", [[], [1, 1], [0, -1]])
def test_random_seeds(seeds):
    with pytest.raises(
        InputError, match=rf"^--seeds must be different whole .*, got {re.escape(str(seeds))}$"
    ):
        check_seeds("--seeds", seeds)
