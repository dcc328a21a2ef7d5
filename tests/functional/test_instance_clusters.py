"""Centroids and clusters of a displacement field, against loops over pixels."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fbr_plugin.functional import cluster_pixels, connected_components, refine_centroids


def smooth_field(height: int, width: int, scale: float, generator: torch.Generator) -> Tensor:
    """Random displacements [2, height, width] that change slowly over the grid."""
    coarse = scale * torch.randn(1, 2, 3, 3, generator=generator)
    return interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[0]


def naive_centroid(displacement: Tensor, y: float, x: float, steps: int) -> tuple[float, float]:
    """Where the displacements lead from a place."""
    height, width = displacement.shape[1:]
    for _ in range(steps):
        moved = [0.0, 0.0]
        for axis in range(2):
            for row in range(height):
                for column in range(width):
                    weight = max(0.0, 1 - abs(row - y)) * max(0.0, 1 - abs(column - x))
                    moved[axis] += weight * displacement[axis, row, column].item()
        y = min(max(y + moved[0], 0.0), height - 1.0)
        x = min(max(x + moved[1], 0.0), width - 1.0)
    return y, x


@pytest.mark.parametrize(("height", "width", "steps"), [(5, 6, 12), (1, 7, 5), (6, 1, 5), (4, 4, 0)])
def test_centroids_against_loops(height: int, width: int, steps: int, generator: torch.Generator) -> None:
    displacement = smooth_field(height, width, 1.0, generator)
    centroids = refine_centroids(displacement, steps)
    assert centroids.dtype == torch.float32
    for y in range(height):
        for x in range(width):
            expected = torch.tensor(naive_centroid(displacement, y, x, steps), dtype=torch.float32)
            torch.testing.assert_close(centroids[:, y, x], expected, rtol=0, atol=1e-4)


def test_true_displacements_lead_to_the_centroid_and_stay_there() -> None:
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    centre = torch.where(columns < 15, 6.25, 22.5)
    displacement = torch.stack([9.5 - rows, centre - columns])
    centroids = refine_centroids(displacement)
    torch.testing.assert_close(centroids, torch.stack([torch.full_like(rows, 9.5), centre]))
    clusters = cluster_pixels(centroids, displacement)
    assert torch.equal(clusters, (columns >= 15).long())


def test_300_steps_unless_told() -> None:
    centroids = refine_centroids(torch.full((2, 9, 9), 0.01))
    torch.testing.assert_close(centroids[:, 0, 0], torch.tensor([3.0, 3.0]))


def test_clusters_against_a_flood_fill(generator: torch.Generator) -> None:
    displacement = smooth_field(12, 14, 3.0, generator)
    centroids = refine_centroids(displacement, 30)
    near = displacement.norm(dim=0) < 1.5
    regions: dict[tuple[int, int], int] = {}
    for start in near.nonzero().tolist():
        if tuple(start) not in regions:
            number, queue = 1 + len(set(regions.values())), [tuple(start)]
            while queue:
                y, x = queue.pop()
                if 0 <= y < 12 and 0 <= x < 14 and near[y, x] and (y, x) not in regions:
                    regions[y, x] = number
                    queue += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    reached = [regions.get((round(y), round(x)), 0) for y, x in centroids.flatten(1).T.tolist()]
    known = sorted(set(reached))
    expected = torch.tensor([known.index(number) for number in reached]).view(12, 14)
    assert len(known) > 1
    assert torch.equal(cluster_pixels(centroids, displacement, 1.5), expected)


def test_regions_have_displacements_below_the_threshold() -> None:
    displacement = torch.tensor(
        [[[0.0, 2.0, 2.0, 0.0, 0.0]], [[0.0, 1.4, 1.6, 0.4, 0.0]]]
    )  # lengths 2.44 and 2.56
    centroids = torch.tensor(
        [[[0.0, 0.4, 0.3, 0.2, 0.1]], [[0.0, 1.4, 1.6, 2.6, 4.0]]]
    )  # round to 0, 1, 2, 3, 4
    assert cluster_pixels(centroids, displacement).tolist() == [[1, 1, 0, 2, 2]]
    assert cluster_pixels(centroids, displacement, 0.4).tolist() == [[1, 0, 0, 0, 2]]


def test_pixels_that_reach_no_region_are_one_cluster() -> None:
    displacement = torch.full((2, 6, 8), 3.0)
    centroids = refine_centroids(displacement)
    assert cluster_pixels(centroids, displacement).eq(0).all()
    displacement[:, 5, 7] = 0
    assert cluster_pixels(centroids, displacement).eq(0).all()
    displacement[:, :2, :2] = 0
    assert cluster_pixels(refine_centroids(displacement), displacement).unique().tolist() == [0, 1]


def test_components_are_of_one_label_and_do_not_touch_at_corners_alone() -> None:
    labels = torch.tensor([[1, 1, 0, 2], [0, 1, 2, 2], [3, 0, 1, 2]])
    expected = torch.tensor([[1, 1, 0, 2], [0, 1, 2, 2], [3, 0, 4, 2]])
    assert torch.equal(connected_components(labels), expected)
    assert torch.equal(
        connected_components(labels > 0), torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [2, 0, 1, 1]])
    )
    assert connected_components(torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0, 0, 0]]


def test_components_against_a_flood_fill(generator: torch.Generator) -> None:
    labels = torch.randint(3, (9, 11), generator=generator)
    expected = torch.zeros_like(labels)
    for row, column in (labels > 0).nonzero().tolist():
        if not expected[row, column]:
            number, queue = expected.max() + 1, [(row, column)]
            while queue:
                y, x = queue.pop()
                if 0 <= y < 9 and 0 <= x < 11 and labels[y, x] == labels[row, column] and not expected[y, x]:
                    expected[y, x] = number
                    queue += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    assert torch.equal(connected_components(labels), expected)


FIELD = torch.zeros(2, 4, 5)
ONE_NAN = FIELD.index_fill(2, torch.tensor([1]), math.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: refine_centroids(FIELD[0]), r"displacement must be \[2, h, w\], got \(4, 5\)"),
        (lambda: refine_centroids(FIELD[:, :0]), r"displacement must be \[2, h, w\], got \(2, 0, 5\)"),
        (lambda: refine_centroids(FIELD + math.nan), "must be finite, got NaN .*: check the weights"),
        (lambda: refine_centroids(ONE_NAN), "must be finite, got NaN"),
        (lambda: refine_centroids(FIELD + math.inf), "must be finite, got NaN or infinite values"),
        (lambda: refine_centroids(FIELD, -1), "steps must be at least 0, got -1"),
        (lambda: cluster_pixels(FIELD, FIELD * math.nan), "must be finite"),
        (lambda: cluster_pixels(FIELD[:, 1:], FIELD), r"same grid, got \(2, 3, 5\) and \(2, 4, 5\)"),
        (lambda: cluster_pixels(FIELD, FIELD, 0), "threshold must be above 0 .*, got 0"),
        (lambda: cluster_pixels(FIELD, FIELD, math.nan), "threshold must be above 0 .*, got nan"),
    ],
)
def test_wrong_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
