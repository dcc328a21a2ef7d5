"""The settings of the data modules: their ranges."""

from typing import Any

import pytest

from fbr_plugin.data import Augmentation, Lists, Loading

NAN = float("nan")


@pytest.mark.parametrize(
    ("settings", "wrong", "message"),
    [
        (Lists, {"val": ""}, r"val='' names no list: give the name of its file"),
        (Loading, {"batch_size": 0}, r"^batch_size must be at least 1, got 0"),
        (Loading, {"eval_batch_size": 0}, r"eval_batch_size must be at least 1, got 0"),
        (Loading, {"num_workers": -1}, r"num_workers must be at least 0, got -1"),
        (Loading, {"seed": -1}, r"seed must be at least 0, got -1"),
        (Augmentation, {"crop_size": 0}, r"crop_size must be at least 1, got 0"),
        (Augmentation, {"resize": -3}, r"resize must be at least 1, got -3"),
        (
            Augmentation,
            {"long_side": (0, 20)},
            r"long_side=\(0, 20\) must be a range \(low, high\) with 0 < low",
        ),
        (Augmentation, {"rescale": (1.5, 0.5)}, r"rescale=\(1.5, 0.5\) must be a range \(low, high\)"),
        (Augmentation, {"rescale": (NAN, 1.0)}, r"rescale=\(nan, 1.0\) must be a range"),
        (Augmentation, {"colour_jitter": -0.1}, r"colour_jitter must be .* at least 0, got -0.1"),
        (Augmentation, {"hue_jitter": 0.6}, r"hue_jitter must lie in \[0, 0.5\], got 0.6"),
        (Augmentation, {"hsv_shift": 91}, r"hsv_shift must lie in \[0, 90\], got 91"),
        (Augmentation, {"colour_jitter": NAN}, r"colour_jitter must be a finite number .* got nan"),
    ],
)
def test_values_out_of_range_are_named(settings: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**wrong)


def test_sizes_that_contradict() -> None:
    message = r"long_side=\(10, 20\) and rescale=\(0.5, 1\) exclude each other: give one of them"
    with pytest.raises(ValueError, match=message):
        Augmentation(long_side=(10, 20), rescale=(0.5, 1))
    with pytest.raises(ValueError, match=r"rescale=.* and resize=30 exclude each other"):
        Augmentation(rescale=(0.5, 1), resize=30)


def test_the_least_values_are_allowed() -> None:
    assert Loading(1, 1, 0, 0) == Loading(batch_size=1)
    assert Augmentation(1, rescale=(1.0, 1.0)).colour_jitter == 0
    assert Augmentation(resize=1).resize == 1
