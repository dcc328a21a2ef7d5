"""From seeds to masks of every pixel."""

import numpy as np
import pytest

from fbr_plugin.postprocess.pseudo_masks import pseudo_mask
from fbr_plugin.postprocess.seeds import Seed, background_scores

IMAGE = np.zeros((2, 2, 3), np.uint8)


def seed(*scores: list[list[float]], keys: tuple[int, ...]) -> Seed:
    """A seed of 2x2 pixels."""
    return Seed(np.array(keys), np.array(scores, np.float32).reshape(len(keys), 2, 2))


def test_the_best_class_above_the_background_is_taken() -> None:
    maps = seed([[0.9, 0.2], [0.3, 0.1]], [[0.1, 0.6], [0.31, 0.2]], keys=(1, 4))
    assert pseudo_mask(IMAGE, maps, background=0.3).tolist() == [[2, 5], [5, 0]]


def test_an_image_without_a_class_is_background() -> None:
    empty = Seed(np.zeros(0, np.int64), np.zeros((0, 2, 2), np.float32))
    assert pseudo_mask(IMAGE, empty, background=0.3, method="pamr").tolist() == [[0, 0], [0, 0]]


def test_the_background_of_a_seed_is_left_out() -> None:
    maps = seed([[0.5, 0.5], [0.1, 0.1]], keys=(0,))._replace(background=np.ones((2, 2), np.float32))
    assert pseudo_mask(IMAGE, maps, background=0.3).tolist() == [[1, 1], [0, 0]]


def test_refinement_follows_the_edges_of_the_image() -> None:
    image = np.zeros((24, 24, 3), np.uint8)
    image[:, 12:] = 200
    scores = np.zeros((1, 24, 24), np.float32)
    scores[:, :, 9:] = 0.6  # reaches three pixels beyond the edge
    scores[:, :, 14:] = 0.9
    truth = np.broadcast_to(np.arange(24) >= 12, (24, 24))
    before = pseudo_mask(image, Seed(np.array([2]), scores), background=0.5)
    after = pseudo_mask(image, Seed(np.array([2]), scores), background=0.5, method="pamr")
    assert set(np.unique(after)) <= {0, 3}
    assert ((after == 3) == truth).mean() > ((before == 3) == truth).mean()


def test_scores_that_are_not_finite_are_refused_by_the_refiner() -> None:
    maps = seed([[0.5, np.nan], [0.1, 0.1]], keys=(0,))
    with pytest.raises(ValueError, match="finite"):
        pseudo_mask(IMAGE, maps, background=0.3, method="pamr")


def test_the_background_of_a_seed_is_taken_without_a_constant() -> None:
    maps = seed([[0.5, 0.5], [0.1, 0.1]], keys=(0,))
    with pytest.raises(ValueError, match="the seed has no background of its own: give a constant score"):
        pseudo_mask(IMAGE, maps, background=None)
    own = maps._replace(background=np.array([[0.4, 0.6], [0.0, 0.2]], np.float32))
    assert pseudo_mask(IMAGE, own, background=None).tolist() == [[1, 0], [1, 0]]


def test_background_of_a_power() -> None:
    scores = np.array([[[0.0, 0.5]], [[1.0, 0.25]]], np.float32)
    assert background_scores(scores, 2).tolist() == [[0.0, 0.25]]
    assert background_scores(scores[:0], 2).tolist() == [[1.0, 1.0]]
    with pytest.raises(ValueError, match="power of a background must be above 0, got 0"):
        background_scores(scores, 0)
