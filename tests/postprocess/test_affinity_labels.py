"""Affinity labels: IRN's combination of two thresholds, and what refinement makes of them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fbr_plugin.postprocess import affinity_labels as module
from fbr_plugin.postprocess.affinity_labels import affinity_labels, power_labels
from fbr_plugin.postprocess.seeds import Seed, threshold_labels

SIZE = (12, 14)


@pytest.fixture
def seed() -> Seed:
    """Random scores of classes 2 and 5."""
    scores = np.random.default_rng(0).random((2, *SIZE), dtype=np.float32)
    return Seed(np.array([1, 4]), scores)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    """Noise."""
    return np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def identity(
    image: NDArray[np.uint8], scores: NDArray[np.float32], method: str, hard: bool, device: str, scale: float
) -> NDArray[np.float32]:
    """A refiner that takes the labels as they are."""
    assert hard
    assert method == "crf"
    return np.eye(len(scores), dtype=np.float32)[scores.argmax(0)].transpose(2, 0, 1)


def test_unrefined_labels_are_those_of_two_thresholds(
    image: NDArray[np.uint8], seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = threshold_labels(seed, 0.8, 0.5)
    assert set(np.unique(expected)) == {0, 2, 5, 255}
    np.testing.assert_array_equal(affinity_labels(image, seed, 0.8, 0.5), expected)
    monkeypatch.setattr(module, "refine", identity)
    found = affinity_labels(image, seed, 0.8, 0.5, "crf")
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_both_thresholds_are_refined_and_combined_pixel_by_pixel(
    image: NDArray[np.uint8], seed: Seed, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = np.random.default_rng(2).integers(0, 3, (2, *SIZE))  # refinement may turn out any label
    given: list[NDArray[np.float32]] = []

    def drawn(image: NDArray[np.uint8], scores: NDArray[np.float32], *_: object, **__: object) -> NDArray:
        given.append(scores)
        return np.eye(3, dtype=np.float32)[draws[len(given) - 1]].transpose(2, 0, 1)

    monkeypatch.setattr(module, "refine", drawn)
    found = affinity_labels(image, seed, 0.75, 0.25, "pamr")
    assert [np.unique(scores[0]).tolist() for scores in given] == [[0.75], [0.25]]
    assert all(np.array_equal(scores[1:], seed.scores) for scores in given)
    classes = [0, 2, 5]
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            fg, bg = classes[draws[0, y, x]], classes[draws[1, y, x]]
            assert found[y, x] == (fg if fg else 255 if bg else 0)


def test_refinement_follows_the_edges_of_the_image() -> None:
    image = np.full((32, 32, 3), 30, np.uint8)
    image[:, 12:24] = 220
    scores = np.zeros((1, 32, 32), np.float32)
    scores[0, :, 14:22] = 0.9  # two columns short of the object on either side
    found = affinity_labels(image, Seed(np.array([3]), scores), 0.3, 0.1, "pamr")
    np.testing.assert_array_equal(found, np.where(image[..., 0] > 128, 4, 0))


def test_an_image_without_classes_is_background(image: NDArray[np.uint8]) -> None:
    nothing = Seed(np.zeros(0, np.int64), np.zeros((0, *SIZE), np.float32))
    np.testing.assert_array_equal(affinity_labels(image, nothing, 0.3, 0.1, "pamr"), np.zeros(SIZE))


def test_mistakes(image: NDArray[np.uint8], seed: Seed) -> None:
    with pytest.raises(ValueError, match=r"^fg \(0\.1\) is below bg \(0\.3\): swap them$"):
        affinity_labels(image, seed, 0.1, 0.3, "pamr")
    with pytest.raises(ValueError, match=r"scores have the grid \[12, 14\], but their image \[5, 14\]"):
        affinity_labels(image[:5], seed, 0.3, 0.1, "pamr")
    with pytest.raises(ValueError, match="method must be"):
        affinity_labels(image, seed, 0.3, 0.1, "none")  # type: ignore[arg-type]


def test_labels_of_two_backgrounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores .1, .3, .4 and .8 have the backgrounds .81, .49, .36, .04 of power 2, .53, .12, .05, 0 of 6."""
    scores = np.array([[[0.1, 0.3, 0.4, 0.8]]], np.float32)
    seed, image = Seed(np.array([2]), scores), np.zeros((1, 4, 3), np.uint8)
    expected = [[0, 255, 3, 3]]
    assert power_labels(image, seed, 2, 6).tolist() == expected
    given = []

    def keep(image, scores, method, hard, device, scale, steps):
        given.append((scores[0, 0], method, hard, scale, steps))
        return scores

    monkeypatch.setattr(module, "refine", keep)
    assert power_labels(image, seed, 2, 6, "crf", scale=3, steps=5).tolist() == expected
    assert [each[1:] for each in given] == [("crf", False, 3, 5)] * 2
    assert given[0][0] == pytest.approx(np.array([0.81, 0.49, 0.36, 0.04]), abs=1e-6)
    assert power_labels(image, Seed(np.zeros(0, int), scores[:0]), 2, 6, "crf").tolist() == [[0] * 4]


def test_background_of_the_larger_power_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    refined = iter([np.array([[[0.2]], [[0.8]]]), np.array([[[0.9]], [[0.1]]])])
    monkeypatch.setattr(module, "refine", lambda *_: next(refined))
    seed = Seed(np.array([2]), np.full((1, 1, 1), 0.5, np.float32))
    assert power_labels(np.zeros((1, 1, 3), np.uint8), seed, 4, 24, "pamr").tolist() == [[0]]
