"""The random walk against IRN's definition: loops over pairs of pixels and a power of the dense matrix."""

import math

import pytest
import torch
from torch import Tensor

from fbr_plugin.functional.random_walk import check_image, check_settings, paths, propagate, transition_matrix

PIXELS = 16 * 16
ONE_CLASS = PIXELS * (30 * 69 + 32)  # bytes at radius 5


def naive_affinity(boundary: Tensor, radius: int) -> Tensor:
    """Affinities [h*w, h*w] of all pairs, each way, pixel by pixel."""
    height, width = boundary.shape
    values = boundary.tolist()
    affinity = torch.eye(height * width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for v in range(max(0, y - radius), min(height, y + radius + 1)):
                for u in range(max(0, x - radius), min(width, x + radius + 1)):
                    distance = math.hypot(v - y, u - x)
                    if not 0 < distance < radius:
                        continue
                    strongest = 0.0
                    for i in range(min(y, v), max(y, v) + 1):
                        for j in range(min(x, u), max(x, u) + 1):
                            off_line = abs((v - y) * (j - x) - (u - x) * (i - y)) / distance
                            if off_line < 1 - 1e-9:
                                strongest = max(strongest, values[i][j])
                    affinity[y * width + x, v * width + u] = 1 - strongest
    return affinity


def naive_walk(scores: Tensor, boundary: Tensor, radius: int, beta: float, steps: int) -> Tensor:
    """Row vectors of scores times a power of the matrix whose columns sum to 1, in double precision."""
    powered = naive_affinity(boundary.double(), radius) ** beta
    matrix = torch.linalg.matrix_power(powered / powered.sum(0, keepdim=True), steps)
    return ((scores.double() * (1 - boundary.double())).flatten(1) @ matrix).view(scores.shape)


def smooth_boundary(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Weak boundaries everywhere, strong ones at some pixels and along a line with a gap: [h, w]."""
    boundary = torch.rand(height, width, generator=generator) ** 4
    boundary[height // 2] = 1.0
    boundary[height // 2, : width // 4] = 0.1
    return boundary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "radius", "beta", "steps"),
    [
        (48, 48, 5, 10.0, 256),
        (9, 13, 3, 4.0, 256),
        (3, 20, 5, 10.0, 5),
        (20, 2, 5, 10.0, 64),
        (1, 1, 5, 2.0, 3),
    ],
)
def test_walk_against_the_dense_definition(
    height: int, width: int, radius: int, beta: float, steps: int, generator: torch.Generator
) -> None:
    settings = (radius, beta, steps)
    boundary = smooth_boundary(height, width, generator)
    scores = torch.rand(3, height, width, generator=generator)
    expected = naive_walk(scores, boundary, *settings)
    double = propagate(scores.double(), boundary.double(), *settings)
    assert double.dtype == torch.float64
    assert (double - expected).abs().max() < 1e-8
    one_class = propagate(scores[1:2].double(), boundary.double(), *settings)
    assert (one_class - expected[1:2]).abs().max() < 1e-8
    single = propagate(scores, boundary, *settings)
    assert single.dtype == torch.float32
    assert (single - expected).abs().max() < 1e-6


@pytest.mark.parametrize(("radius", "count"), [(1, 0), (2, 4), (5, 34), (10, 152)])
def test_paths_lead_to_every_pixel_of_a_half_disc_once(radius: int, count: int) -> None:
    ends = [path[-1] for path in paths(radius)]
    reach = range(1 - radius, radius)
    disc = {(y, x) for y in reach for x in reach if 0 < y * y + x * x < radius**2}
    assert len(ends) == count
    assert {*ends, *((-y, -x) for y, x in ends)} == disc
    assert all(path[0] == (0, 0) for path in paths(radius))


def test_straight_paths_hold_the_line_alone_and_slanted_ones_its_sides() -> None:
    found = {path[-1]: set(path) for path in paths(5)}
    assert found[0, 3] == {(0, 0), (0, 1), (0, 2), (0, 3)}
    assert found[1, -2] == {(0, 0), (0, -1), (0, -2), (1, 0), (1, -1), (1, -2)}
    assert found[2, 2] == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}


def test_rows_of_the_matrix_sum_to_one_and_boundaries_leave_nothing(generator: torch.Generator) -> None:
    boundary = smooth_boundary(12, 14, generator)
    boundary[6] = 1.0
    matrix = transition_matrix(boundary)
    dense = matrix.to_dense()
    torch.testing.assert_close(dense.sum(1), torch.ones_like(dense[0]))
    assert dense[: 6 * 14, 6 * 14 :].eq(0).all()
    assert (matrix.values() > 0).all()
    assert matrix.col_indices().dtype == torch.int32


def test_a_partial_seed_fills_its_region_and_no_other() -> None:
    boundary = torch.zeros(24, 24)
    boundary[:, 12] = 1.0
    seed = torch.zeros(2, 24, 24)
    seed[0, 8:16, 2:6] = 1.0
    seed[1, 4:10, 14:20] = 1.0
    walked = propagate(seed, boundary)
    assert walked[0, :, 13:].eq(0).all()
    assert walked[1, :, :12].eq(0).all()
    assert walked[0, :, :12].min() > 0.5 * walked[0].max() > 0
    assert walked[1, :, 13:].min() > 0.5 * walked[1].max() > 0


def test_classes_in_turn_give_the_same_as_all_at_once(generator: torch.Generator) -> None:
    boundary, scores = smooth_boundary(16, 16, generator), torch.rand(5, 16, 16, generator=generator)
    together = propagate(scores, boundary)
    in_turn = propagate(scores, boundary, max_memory=ONE_CLASS)
    torch.testing.assert_close(in_turn, together, rtol=0, atol=1e-7)
    assert torch.equal(propagate(scores, boundary, 5, 10.0, 256), together)
    assert not torch.equal(propagate(scores, boundary, steps=257), together)


@pytest.mark.parametrize(("height", "width"), [(3, 5), (6, 2), (1, 1)])
def test_on_grids_smaller_than_the_radius(height: int, width: int, generator: torch.Generator) -> None:
    boundary = torch.rand(height, width, generator=generator, dtype=torch.float64)
    scores = torch.rand(2, height, width, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        propagate(scores, boundary, 4, 3.0, 2), naive_walk(scores, boundary, 4, 3.0, 2)
    )


def test_no_steps_no_classes_and_other_types(generator: torch.Generator) -> None:
    boundary, scores = smooth_boundary(8, 9, generator), torch.rand(2, 8, 9, generator=generator)
    torch.testing.assert_close(propagate(scores, boundary, steps=0), scores * (1 - boundary))
    torch.testing.assert_close(propagate(scores, boundary, radius=1), scores * (1 - boundary))
    assert propagate(scores[:0], boundary).shape == (0, 8, 9)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = propagate(scores.bfloat16(), boundary)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, propagate(scores.bfloat16().float(), boundary))


def test_a_constant_stays(generator: torch.Generator) -> None:
    boundary = 0.1 * torch.rand(10, 10, generator=generator)
    walked = propagate(1 / (1 - boundary)[None], boundary)
    torch.testing.assert_close(walked, torch.ones(1, 10, 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores": torch.zeros(2, 16, 15)},
            r"scores must be \[K, h, w\] .* got \(2, 16, 15\) and \(16, 16\)",
        ),
        ({"scores": torch.zeros(16, 16)}, r"scores must be \[K, h, w\] .* got \(16, 16\)"),
        ({"scores": torch.full((2, 16, 16), math.nan)}, "scores must be finite"),
        ({"boundary": torch.zeros(1, 16, 16)}, r"boundary \[h, w\] of the same grid, got .*\(1, 16, 16\)"),
        (
            {"boundary": torch.full((16, 16), 1.5)},
            r"boundary must be in \[0, 1\].* got \[1.5, 1.5\]: .*sigmoid",
        ),
        ({"boundary": torch.full((16, 16), math.nan)}, "boundary must be in .* without NaN"),
        ({"radius": 0}, "a radius of at least 1 pixel, .* got radius=0"),
        ({"beta": 0.0}, "a beta above 0 .* beta=0.0"),
        ({"steps": -1}, "at least 0 steps, .* steps=-1"),
        (
            {"max_memory": ONE_CLASS - 1},
            f"16x16 pixels .* takes {ONE_CLASS} bytes, more than max_memory=.*raise it",
        ),
    ],
)
def test_wrong_arguments(change: dict[str, object], message: str) -> None:
    arguments = {"scores": torch.zeros(2, 16, 16), "boundary": torch.zeros(16, 16), **change}
    with pytest.raises(ValueError, match=message):
        propagate(**arguments)  # type: ignore[arg-type]


def test_a_boundary_with_one_value_out_of_range() -> None:
    for value in (-0.1, 1.1):
        boundary = torch.full((4, 4), 0.5)
        boundary[1, 2] = value
        with pytest.raises(ValueError, match=r"boundary must be in \[0, 1\]"):
            propagate(torch.zeros(1, 4, 4), boundary)


def test_the_least_settings_are_taken() -> None:
    check_settings(radius=1, beta=0.1, steps=0)


@pytest.mark.parametrize(
    ("image", "scores"), [((2, 3, 8, 8), (4, 2, 2)), ((3, 8, 8), (4, 2, 2)), ((1, 3, 8, 8), (1, 4, 2, 2))]
)
def test_a_walk_is_over_one_image(image: tuple[int, ...], scores: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one image \[1, 3, H, W\] with scores \[K, H', W'\], got "):
        check_image(torch.zeros(image), torch.zeros(scores))
    check_image(torch.zeros(1, 3, 8, 8), torch.zeros(4, 2, 2))
