"""K-means against scikit-learn and in its corner cases."""

import importlib

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Reference
from threadpoolctl import threadpool_limits

from fbr_plugin.functional import KMeans, kmeans


def draw(kind: str, seed: int) -> np.ndarray:
    """[600, 16] points: random, eight overlapping or eight well separated clusters."""
    source = np.random.default_rng(seed)
    spread = {"random": 0.0, "overlapping": 1.0, "separated": 10.0}[kind]
    centres = spread * source.standard_normal((8, 16))
    return centres[source.integers(8, size=600)] + source.standard_normal((600, 16))


def inertia(points: torch.Tensor, result: KMeans) -> torch.Tensor:
    """[B] sums of squared distances of all points to their centroids."""
    index = result.assignments[..., None].expand_as(points)
    own = (points - result.centroids.gather(1, index.clamp_min(0))).square()
    return (own * (index >= 0)).sum((1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bound"), [("random", 1.02), ("overlapping", 1.02), ("separated", 1.05)])
def test_inertia_matches_scikit_learn(kind, bound):
    ours = theirs = 0.0
    with threadpool_limits(1):
        for seed in range(10):
            points = draw(kind, seed)
            batch = torch.from_numpy(points).float().expand(20, -1, -1)
            mask = torch.ones(batch.shape[:2], dtype=torch.bool)
            generator = torch.Generator().manual_seed(seed)
            ours += inertia(batch, kmeans(batch, mask, 8, generator=generator)).sum().item()
            theirs += sum(Reference(8, n_init=1, random_state=n).fit(points).inertia_ for n in range(20))
    assert ours / theirs <= bound


def test_seeding_takes_the_better_of_two_draws_by_squared_distance(generator):
    # 50 points at 0 and at 10, one at -40. The best starts are 0 and 10. They are missed if the first one is
    # the outlier, or if both draws for the second are: it has 1600 of 6600 parts of the squared distances
    # from 0, and 2500 of 7500 from 10. Points outside the mask come first.
    points = torch.tensor([99.0] * 60 + [0.0] * 50 + [10.0] * 50 + [-40.0])[None, :, None].expand(
        4000, -1, -1
    )
    result = kmeans(points, points[..., 0] < 99, 2, iterations=1, generator=generator)
    missed = (result.centroids[..., 0] != 10).all(1).double().mean().item()
    expected = (50 * (1600 / 6600) ** 2 + 50 * (2500 / 7500) ** 2 + 1) / 101
    assert missed == pytest.approx(expected, abs=4.5 * (expected * (1 - expected) / 4000) ** 0.5)


def test_masked_points_do_not_take_part(generator):
    points = torch.randn(3, 50, 4, generator=generator)
    mask = torch.rand(3, 50, generator=generator) < 0.6
    noise = torch.where(mask[..., None], points, torch.full_like(points, 1e3))
    first = kmeans(points, mask, 5, generator=torch.Generator().manual_seed(1))
    second = kmeans(noise, mask, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(first.centroids, second.centroids)
    assert torch.equal(first.assignments == -1, ~mask)
    assert torch.equal(first.assignments, second.assignments)


def test_each_point_has_its_nearest_centroid(generator):
    points = torch.randn(2, 80, 6, generator=generator)
    result = kmeans(points, torch.ones(2, 80, dtype=torch.bool), 7, generator=generator)
    distances = torch.cdist(points, result.centroids)
    assert torch.equal(distances.argmin(-1), result.assignments)


@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_few_points_are_their_own_centroids(count, generator):
    points = torch.randn(1, 20, 3, generator=generator)
    mask = torch.zeros(1, 20, dtype=torch.bool)
    chosen = torch.randperm(20, generator=generator)[:count].sort().values
    mask[0, chosen] = True
    result = kmeans(points, mask, 8, generator=generator)
    assert result.valid.sum() == count
    torch.testing.assert_close(result.centroids[0, :count], points[0, chosen])
    assert (result.centroids[0, count:] == 0).all()
    assert inertia(points, result).item() == pytest.approx(0, abs=1e-5)


def test_images_with_few_and_with_many_points_share_a_batch(generator):
    points, mask = torch.randn(3, 20, 3, generator=generator), torch.ones(3, 20, dtype=torch.bool)
    mask[0, 7:] = mask[2, :] = False
    result = kmeans(points, mask, 8, generator=generator)
    assert result.valid.sum(1).tolist() == [7, 8, 0]
    assert torch.equal(result.centroids[0, :7], points[0, :7])


def test_more_clusters_than_points(generator):
    points = torch.randn(2, 3, 4, generator=generator)
    result = kmeans(points, torch.ones(2, 3, dtype=torch.bool), 8, generator=generator)
    assert result.centroids.shape == (2, 8, 4)
    assert result.valid.tolist() == [[True] * 3 + [False] * 5] * 2


def test_identical_points_leave_clusters_invalid(generator):
    result = kmeans(torch.ones(1, 30, 4), torch.ones(1, 30, dtype=torch.bool), 4, generator=generator)
    assert result.valid.sum() == 1
    torch.testing.assert_close(result.centroids[result.valid], torch.ones(1, 4))
    assert result.assignments.unique().numel() == 1


def test_empty_clusters_move_to_far_points():
    # All starts land on the crowd's one place; the outlier must still get a centroid of its own.
    points = torch.cat([torch.zeros(500, 2), torch.tensor([[9.0, 9.0]]), torch.full((500, 2), 1.0)])[None]
    mask = torch.ones(points.shape[:2], dtype=torch.bool)
    for seed in range(5):
        result = kmeans(points, mask, 3, generator=torch.Generator().manual_seed(seed))
        assert inertia(points, result).item() == pytest.approx(0, abs=1e-3)


def test_an_empty_cluster_takes_the_farthest_masked_point(monkeypatch):
    points = torch.tensor([0.0, 1.0, 10.0, 500.0, 11.0, 30.0])[None, :, None]
    mask = points[..., 0] < 100
    starts = torch.tensor([1000.0, 0.5, 2000.0])[None, :, None]  # all points are nearest to the second
    module = importlib.import_module("fbr_plugin.functional.kmeans")
    monkeypatch.setattr(module, "_seed", lambda *_: starts)
    result = kmeans(points, mask, 3, iterations=1)
    assert result.centroids.flatten().tolist() == pytest.approx([30, 52 / 5, 11])
    assert result.assignments.tolist() == [[1, 1, 1, -1, 2, 0]]


def test_half_precision_and_generator(generator):
    points = torch.randn(2, 60, 8, generator=generator)
    mask = torch.ones(2, 60, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = kmeans(points.bfloat16(), mask, 4, generator=torch.Generator().manual_seed(2))
    full = kmeans(points.bfloat16().float(), mask, 4, generator=torch.Generator().manual_seed(2))
    assert half.centroids.dtype == torch.float32
    assert torch.equal(half.centroids, full.centroids)
    state = torch.get_rng_state()
    kmeans(points, mask, 4, generator=generator)
    assert torch.equal(state, torch.get_rng_state())


def test_bad_arguments():
    points = torch.zeros(2, 5, 3)
    mask = torch.ones(2, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"points must be \[B, N, D\] and mask \[B, N\], got \(2, 5, 3\)"):
        kmeans(points, mask[:1], 2)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        kmeans(points, mask, 0)
