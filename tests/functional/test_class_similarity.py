"""Class similarity and the gate: each function against plain loops, closed forms and a built scene."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fbr_plugin import functional as fbr


def pooled(level: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Average the pixels of a level that each cell of the grid touches."""
    height, width = level.shape[-2:]
    cells = torch.zeros(*level.shape[:2], *grid)
    for u in range(grid[0]):
        for v in range(grid[1]):
            rows = slice(u * height // grid[0], -(-(u + 1) * height // grid[0]))
            columns = slice(v * width // grid[1], -(-(v + 1) * width // grid[1]))
            cells[..., u, v] = level[..., rows, columns].mean((2, 3))
    return cells


def levels(generator: torch.Generator) -> list[torch.Tensor]:
    """Levels twice as fine as a grid of 4 x 6, finer by no whole number, equal and coarser."""
    shapes = [(3, 8, 12), (2, 5, 7), (4, 4, 6), (5, 2, 3)]
    return [10**n * torch.randn(2, *shape, generator=generator) for n, shape in enumerate(shapes)]


def test_a_pixel_is_described_by_all_levels_alike(generator):
    given = levels(generator)
    pixels = fbr.hypercolumns(given, (4, 6))
    assert pixels.shape == (2, 3 + 2 + 4 + 5, 4, 6)
    torch.testing.assert_close(pixels.norm(dim=1), torch.ones(2, 4, 6))
    parts = [pooled(level, (4, 6)) for level in given]
    expected = torch.cat([part / part.norm(dim=1, keepdim=True) / 2 for part in parts], 1)
    torch.testing.assert_close(pixels, expected)


@pytest.mark.parametrize("autocast", [True, False])
def test_descriptions_are_in_float32(autocast, generator):
    given = [level.bfloat16() for level in levels(generator)]
    exact = fbr.hypercolumns([level.float() for level in given], (4, 6))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        pixels = fbr.hypercolumns(given, (4, 6))
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels, exact)


def test_a_level_without_activation_describes_nothing(generator):
    first, second = torch.zeros(1, 2, 3, 3), torch.rand(1, 3, 3, 3, generator=generator)
    pixels = fbr.hypercolumns([first, second], (3, 3))
    assert (pixels[:, :2] == 0).all()
    torch.testing.assert_close(pixels[:, 2:], F.normalize(second, dim=1))
    assert (fbr.hypercolumns([first], (3, 3)) == 0).all()


def around(kinds: list[int], generator: torch.Generator, dim: int = 6) -> torch.Tensor:
    """A row [N, L] of unit length near the axis of each kind."""
    rows = torch.eye(dim)[kinds] + 0.02 * torch.randn(len(kinds), dim, generator=generator)
    return F.normalize(rows, dim=-1)


@pytest.mark.parametrize("least", [1, 2, 3])
def test_a_word_is_foreign_to_the_classes_that_its_images_lack(least, generator):
    # Of kind k, class c is lacking in as many rows as the table says; 5 rows of each kind take part.
    lacking = torch.tensor([[0, 1, 2], [3, 0, 5], [2, 2, 1], [0, 0, 0]])
    kinds = [kind for kind in range(4) for _ in range(5)]
    labels = torch.cat([(torch.arange(5)[:, None] >= row).float() for row in lacking])
    masked = [0, 1, 2, 3, 4, 4, 4]  # and rows that do not, of images that have no class
    rows = around([*kinds, *masked], generator)
    labels = torch.cat([labels, torch.zeros(len(masked), 3)])
    order = torch.randperm(len(rows), generator=generator)
    mask = torch.arange(len(rows)) < len(kinds)
    clusters = fbr.background_clusters(rows[order], labels[order], mask[order], 4, least, generator)
    nearest = clusters.centres @ torch.eye(6).T
    kind = nearest.argmax(1)
    assert sorted(kind.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(nearest.amax(1), torch.ones(4), rtol=0, atol=0.01)
    torch.testing.assert_close(clusters.centres.norm(dim=1), torch.ones(4))
    assert torch.equal(clusters.class_absent, (lacking >= least)[kind])


def test_labels_may_be_of_any_type(generator):
    rows, labels = around([0, 0, 1, 1], generator), torch.tensor([[1, 0], [1, 0], [0, 1], [0, 0]])
    mask = torch.ones(4, dtype=torch.bool)
    for given in (labels.float(), labels.bool(), labels):
        clusters = fbr.background_clusters(rows, given, mask, 2, generator=generator)
        expected = torch.tensor([[False, True], [True, False]])
        assert torch.equal(clusters.class_absent, expected[clusters.centres[:, :2].argmax(1)])


def test_few_rows_leave_words_unused(generator):
    rows, mask = around([0, 1, 2, 3], generator), torch.tensor([True, False, True, False])
    clusters = fbr.background_clusters(rows, torch.zeros(4, 2), mask, 5, least=1, generator=generator)
    used = clusters.centres.any(1)
    assert sorted(clusters.centres[used].argmax(1).tolist()) == [0, 2]
    assert torch.equal(clusters.class_absent, used[:, None].expand(-1, 2))
    nothing = fbr.background_clusters(rows, torch.zeros(4, 2), mask & False, 5, least=1, generator=generator)
    assert not nothing.class_absent.any()
    assert not nothing.centres.any()


def setting(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, fbr.BackgroundClusters]:
    """Pixels, prototypes of 4 classes (none of the third), clusters (none class-absent for the second)."""
    pixels = F.normalize(torch.randn(2, 5, 3, 4, generator=generator).double(), dim=1)
    prototypes = F.normalize(torch.randn(4, 3, 5, generator=generator).double(), dim=-1)
    prototypes[0, 1] = prototypes[2] = prototypes[1, 2, 3:] = 0
    centres = F.normalize(torch.randn(6, 5, generator=generator).double(), dim=-1)
    class_absent = torch.rand(6, 4, generator=generator) < 0.4
    class_absent[:, 1] = False
    assert class_absent.any(0).tolist() == [True, False, True, True]
    return pixels, prototypes, fbr.BackgroundClusters(centres, class_absent)


def test_affinity_equals_a_double_loop(generator):
    pixels, prototypes, clusters = setting(generator)
    own, class_absent = (torch.zeros(2, 4, 3, 4, dtype=torch.float64) for _ in range(2))
    for b, u, v in np.ndindex(2, 3, 4):
        for c in range(4):
            near = [float(row @ pixels[b, :, u, v]) for row in prototypes[c] if row.any()]
            strange = [
                float(row @ pixels[b, :, u, v]) for row, lacks in zip(*clusters, strict=True) if lacks[c]
            ]
            own[b, c, u, v] = max(near, default=math.inf)
            class_absent[b, c, u, v] = max(strange, default=-math.inf)
    near = fbr.class_similarity(pixels, prototypes, clusters)
    torch.testing.assert_close(near.own, own, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(near.class_absent, class_absent, rtol=1e-12, atol=1e-12)
    assert (near.own < 0).any()  # a row of zeros would have been nearer
    assert near.own[:, 2].isposinf().all()
    assert near.class_absent[:, 1].isneginf().all()


def test_a_class_of_which_nothing_is_known_is_not_gated(generator):
    near = fbr.class_similarity(*setting(generator))
    for background_similarity in (-1.0, 0.5, math.inf):
        gate = fbr.gate(near.own, near.class_absent, torch.full((4,), background_similarity), 0.03)
        assert (gate[:, [1, 2]] == 1).all()
    gate = fbr.gate(near.own, near.class_absent, torch.full((4,), -1.0), 0.03)
    assert (gate[:, [0, 3]] < 1).any(dim=0).all()


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.37, 1.0])
def test_reach_equals_the_quantile_of_sure_background(quantile, generator):
    class_absent = 2 * torch.rand(3, 4, 5, 6, generator=generator) - 1
    scores = torch.rand(3, 4, 5, 6, generator=generator) * 0.2
    scores[:, 1] += 0.05  # no sure background
    labels = torch.tensor([[1.0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]])  # no image of the third
    found = fbr.background_similarity(class_absent, scores, labels, quantile, sure=0.05)
    for c in (0, 3):
        values = [class_absent[i, c][scores[i, c] < 0.05] for i in range(3) if labels[i, c]]
        expected = np.quantile(torch.cat(values).numpy(), quantile)
        np.testing.assert_allclose(found[c], expected, rtol=1e-6)
    assert found[[1, 2]].isnan().all()


def test_reach_is_not_finite_where_no_word_is_foreign():
    class_absent = torch.full((2, 1, 3, 3), -torch.inf)
    assert (
        not fbr.background_similarity(class_absent, torch.zeros(2, 1, 3, 3), torch.ones(2, 1), 0.1)
        .isfinite()
        .any()
    )


def gate_of(own: float, class_absent: float, background_similarity: float) -> float:
    """The gate of one pixel and class at the temperature 0.03."""
    near = (torch.tensor(x, dtype=torch.float64).view(1, 1, 1, 1) for x in (own, class_absent))
    return float(fbr.gate(*near, torch.tensor([background_similarity], dtype=torch.float64), 0.03))


def test_gate_in_closed_form():
    assert gate_of(0.5, 0.5, 0.5) == pytest.approx((1 - 0.5 * 0.5) ** 2)
    assert gate_of(0.9, 0.9, 0.0) == pytest.approx(0.5**2)
    far = 1 / (1 + math.exp(0.02 / 0.03))
    better = 1 / (1 + math.exp(-0.06 / 0.03))
    assert gate_of(0.72, 0.78, 0.80) == pytest.approx((1 - far * better) ** 2)
    assert gate_of(0.9, 0.3, 0.8) > 1 - 1e-6  # far from class_absent clusters, near to the class
    assert gate_of(-0.5, 0.3, 0.8) > 1 - 1e-6  # far from both
    assert gate_of(0.95, 0.6, 0.3) > 1 - 1e-4  # near to both, nearer to the class
    assert gate_of(0.3, 0.95, 0.7) < 1e-6  # background, and not the class
    nearer = [gate_of(0.7, class_absent, 0.75) for class_absent in np.linspace(-1, 1, 50)]
    assert nearer == sorted(nearer, reverse=True)
    likelier = [gate_of(own, 0.8, 0.75) for own in np.linspace(-1, 1, 50)]
    assert likelier == sorted(likelier)


def test_every_class_has_its_own_reach():
    near = torch.full((1, 2, 1, 1), 0.2), torch.full((1, 2, 1, 1), 0.5)
    gate = fbr.gate(*near, torch.tensor([0.3, 0.8]), 0.03).flatten()
    assert gate[0] < 1e-3
    assert gate[1] > 1 - 1e-3


def test_gate_is_positive_and_at_most_1(generator):
    near = (2 * torch.rand(2, 3, 20, 20, generator=generator) - 1 for _ in range(2))
    gate = fbr.gate(*near, torch.tensor([-1.0, 0.0, 1.0]), 0.03)
    assert gate.min() > 0
    assert gate.max() <= 1
    assert gate.log().isfinite().all()
    extreme = torch.full((1, 1, 1, 1), -1.0), torch.ones(1, 1, 1, 1)
    assert 0 < fbr.gate(*extreme, torch.tensor([-1.0]), 0.03) < 1e-12


@pytest.mark.parametrize("strays", [False, True])
def test_only_a_texture_that_strays_lowers_its_class(strays, generator):
    """Objects of 2 classes, the texture of each class, and a ground that all images share.

    The first class's texture occurs in the second class's images too, or it does not.
    """
    objects, textures, ground = [0, 1], [2, 3], 4
    share = torch.eye(6)
    share[textures, objects] = 0.3  # an object's surroundings are in its pixels, and it in theirs
    images = torch.tensor([[1.0, 0], [0, 1]]).repeat(40, 1)

    def pixels(kind: int) -> torch.Tensor:
        return F.normalize(share[kind] + 0.05 * torch.randn(40, 6, generator=generator), dim=-1)

    rows = torch.cat([pixels(ground), pixels(ground), pixels(textures[0]), pixels(textures[1])])
    labels = torch.cat([images, images[:1].expand(40, -1), images[1:2].expand(40, -1)])
    if strays:
        rows = torch.cat([rows, pixels(textures[0])])
        labels = torch.cat([labels, images[1:2].expand(40, -1)])
    mask = torch.ones(len(rows), dtype=torch.bool)
    clusters = fbr.background_clusters(rows, labels, mask, 6, generator=generator)
    prototypes = torch.stack([pixels(kind)[:4] for kind in objects])
    scene = torch.stack([pixels(kind).T for kind in (objects[0], textures[0], ground)], 1)[None]
    near = fbr.class_similarity(scene, prototypes, clusters)
    scores = torch.tensor([1.0, 0.8, 0.0])[:, None].expand(1, 2, 3, 40)
    background_similarity = fbr.background_similarity(near.class_absent, scores, images[:1], 0.1)
    assert background_similarity.isfinite().tolist() == [True, False]
    gate = fbr.gate(near.own, near.class_absent, background_similarity.nan_to_num(torch.inf), 0.03)
    on_object, on_texture, on_ground = gate[0, 0]
    assert on_object.min() > 0.95
    assert on_ground.median() < 0.3
    if strays:
        assert on_texture.median() < 0.3
    else:
        assert on_texture.min() > 0.95


def test_scores_are_lowered_towards_the_lowest_of_their_map(generator):
    scores, gate = torch.rand(2, 6, 4, 4, generator=generator), torch.rand(2, 3, 4, 4, generator=generator)
    lowered = fbr.lower_scores(scores + 0.3, gate)
    lowest = scores.amin((2, 3), keepdim=True)
    torch.testing.assert_close(lowered, lowest + 0.3 + (scores - lowest) * torch.cat([gate, gate], 1))
    scores = scores - lowest
    torch.testing.assert_close(fbr.lower_scores(scores, gate), scores * torch.cat([gate, gate], 1))
    assert torch.equal(fbr.lower_scores(scores, torch.ones_like(gate)), scores)
    assert fbr.lower_scores(scores.half(), gate).dtype == torch.float32
