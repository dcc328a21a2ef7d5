"""Codes of masks against pycocotools, and codes that are wrong."""

from typing import Any

import numpy as np
import pytest
from helpers.tiny import rectangle
from pycocotools import mask as tools

from fbr_plugin.data.instances import codes
from fbr_plugin.data.instances.codes import decode, decode_all, encode


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_masks_come_back(share: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = rng.integers(1, 300, 2)
        mask = rng.random((height, width)) < share
        code = encode(mask)
        assert code == tools.encode(np.asfortranarray(mask, np.uint8)) | {
            "size": [height, width],
            "counts": code["counts"],
        }
        assert np.array_equal(decode(code, mask.shape), mask)
        runs = codes._runs(code["counts"])
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.T.ravel())
        assert np.array_equal(decode({"size": [height, width], "counts": runs}, mask.shape), mask)


def test_several_polygons_are_one_object() -> None:
    covered = decode([rectangle(0, 0, 2, 2), rectangle(1, 1, 4, 3)], (5, 6))
    expected = np.zeros((5, 6), bool)
    expected[0:2, 0:2] = expected[1:3, 1:4] = True
    assert np.array_equal(covered, expected)


GOOD = encode(np.ones((4, 6), bool))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"size": [4, 6], "counts": [10, 5]}, "its runs do not fill an image of 6x4 pixels"),
        ({"size": [4, 6], "counts": [10, 15]}, "its runs do not fill"),
        ({"size": [4, 6], "counts": [30, -6]}, "its runs do not fill"),
        ({"size": [4, 6], "counts": []}, "its runs do not fill"),
        ({"size": [4, 6], "counts": [12.0, 12.0]}, "its runs are not integers"),
        ({"size": [4, 6], "counts": encode(np.ones((4, 5), bool))["counts"]}, "its runs do not fill"),
        ({"size": [6, 4], "counts": GOOD["counts"]}, "its runs do not fill"),
        ({"size": [4, 6], "counts": GOOD["counts"][:-1] + "X"}, "its text is no code: it is empty, cut off"),
        ({"size": [4, 6], "counts": ""}, "its text is no code"),
        ({"size": [4, 6], "counts": "0 h"}, "its text is no code"),
        ({"size": [4, 6], "counts": "0ü"}, "UnicodeEncodeError"),
        ({"size": [4, 6], "counts": "P" * 40 + "0"}, "a number of more than 7 characters"),
        ({"size": [4, 6]}, "KeyError: 'counts'"),
        ({"size": [4, 6], "counts": 24}, "AttributeError"),
        (None, "TypeError"),
        ([[0, 0, 3, 3]], "a polygon of 4 numbers"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "a polygon reaches far outside the image"),
        ([[0, 0, float("nan"), 0, 3, 3]], "a polygon reaches far outside the image"),
    ],
)
def test_codes_that_are_wrong(code: Any, message: str) -> None:
    with pytest.raises(
        ValueError, match=rf"file: the segmentation of an object of a .*{message}.*object 2 of"
    ):
        decode_all([GOOD, code], [4, 6], "file", "a")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([2**20, 2**20], r"a is 1048576x1048576 pixels, more than 100000000: shrink it, or allow"),
        ([0, 6], r"a has the size \[0, 6\], but needs a height and a width: correct it"),
        ([4.0, 6], "but needs a height and a width"),
        ([4], "but needs a height and a width"),
        (4, "a has the size 4, but needs"),
    ],
)
def test_sizes_that_are_wrong(shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_all([GOOD], shape, "file", "a")


def test_an_absurd_size_without_instances_is_refused() -> None:
    with pytest.raises(ValueError, match="a is 1048576x1048576 pixels, more than 100000000"):
        decode_all([], [2**20, 2**20], "file", "a")


def test_many_masks_of_a_large_image_are_refused() -> None:
    with pytest.raises(
        ValueError, match="a has 22 masks of 10000x10000 pixels, together more than 2147483648"
    ):
        decode_all([GOOD] * 22, [10_000, 10_000], "file", "a")
