"""Each step of the method against naive loops, and in its corner cases."""

import math

import pytest
import torch
from helpers import naive
from helpers.made import MadeTensors

from fbr_plugin import functional as fbr

TAU = 0.5


@pytest.fixture(params=["logits", "cams"])
def case(request):
    """Scores [4, 4 or 3, 6, 7], labels [4, 3], of images with one or two classes."""
    generator = torch.Generator().manual_seed(7)
    channels = 4 if request.param == "logits" else 3
    scores = torch.randn(4, channels, 6, 7, generator=generator)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])
    features = torch.randn(4, 5, 6, 7, generator=generator)
    return scores, labels, features


def test_maps_pseudo_labels_and_hard_pixels(case):
    scores, labels, _ = case
    result = fbr.normalise_scores(scores, labels, 0.1)
    normalised, entropy = naive.maps(scores, labels, 0.1)
    torch.testing.assert_close(result.normalised, normalised, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.entropy, entropy, rtol=1e-5, atol=1e-6)
    pseudo = result.normalised.argmax(1)
    absent = torch.cat([torch.ones(4, 1), labels], 1).gather(1, pseudo.flatten(1)) == 0
    assert not absent.any()
    for q_conf, q_ent, floor in [(0.4, 0.25, 0.05), (0.6, 0.1, 0.05), (0.0, 0.0, 0.5), (0.9, 0.9, 0.0)]:
        hard = fbr.hard_pixels(
            result, pseudo, confidence_quantile=q_conf, entropy_quantile=q_ent, score_floor=floor
        )
        expected = naive.hard(result.normalised, result.entropy, pseudo, q_conf, q_ent, floor)
        assert torch.equal(hard, expected)
    expected = naive.hard(result.normalised, result.entropy, pseudo, 0.4, 0.25, 0.05)
    assert torch.equal(fbr.hard_pixels(result, pseudo), expected)


def test_absent_class_cannot_win_by_its_noise():
    scores = torch.full((1, 3, 4, 4), -8.0)
    scores[:, 0] = 0.0
    scores[0, 2] = torch.linspace(-8, -7, 16).view(4, 4)  # an absent class with the largest extent
    maps = fbr.normalise_scores(scores, torch.tensor([[1.0, 0.0]]))
    assert (maps.normalised[:, 2] == 0).all()


def test_constant_and_empty_maps_are_zero():
    labels = torch.tensor([[1.0, 0.0]])
    maps = fbr.normalise_scores(torch.full((1, 2, 3, 3), -1.0), labels)
    assert (maps.normalised[:, 1:] == 0).all()
    assert (maps.normalised.argmax(1) == 0).all()
    assert maps.entropy.isfinite().all()
    hard = fbr.hard_pixels(maps, maps.normalised.argmax(1))
    assert not hard.any()
    assert fbr.background_target(torch.full((1, 2, 3, 3), -1.0), labels).all()


def test_scores_below_the_floor_are_never_confident():
    normalised = torch.zeros(1, 2, 1, 6)
    normalised[0, 1, 0] = torch.tensor([0.01, 0.02, 0.03, 0.04, 0.045, 0.049])
    maps = fbr.ScoreMaps(normalised, torch.linspace(0, 1, 6).view(1, 1, 6))
    hard = fbr.hard_pixels(maps, torch.ones(1, 1, 6, dtype=torch.int64), entropy_quantile=0.0)
    assert hard.flatten().tolist() == [False, True, True, True, True, True]


def test_scores_at_the_floor_do_not_count():
    normalised = torch.zeros(1, 2, 1, 5)
    normalised[0, 1, 0] = torch.tensor([0.5, 0.5, 0.5, 0.625, 0.75])
    maps = fbr.ScoreMaps(normalised, torch.tensor([0.0, 1, 1, 1, 1]).view(1, 1, 5))
    labels = torch.ones(1, 1, 5, dtype=torch.int64)
    hard = fbr.hard_pixels(maps, labels, entropy_quantile=0.0, score_floor=0.5)  # only 0.75 exceeds 0.625
    assert hard.flatten().tolist() == [False, True, True, True, False]


def test_hard_pixels_leaves_the_scores_alone(case):
    scores, labels, _ = case
    maps = fbr.normalise_scores(scores, labels)
    before = maps.normalised.clone()
    fbr.hard_pixels(maps, maps.normalised.argmax(1))
    assert torch.equal(maps.normalised, before)


def test_background_target():
    cams = torch.tensor([[[[-1.0, 0.04, 2.0]], [[9.0, 9.0, 9.0]]]])
    target = fbr.background_target(cams, torch.tensor([[1.0, 0.0]]), threshold=0.05)
    assert target.tolist() == [[[1.0, 1.0, 0.0]]]
    logits = torch.cat([torch.zeros(1, 1, 1, 3), cams], 1)
    assert torch.equal(fbr.background_target(logits, torch.tensor([[1.0, 0.0]])), target)


def test_background_has_a_low_sum_of_all_maps():
    cams = torch.tensor(
        [[[[10.0, 0.3, 0.3, 0.3]], [[0.4, 0.0, 0.012, 0.004]]]]
    )  # of their maxima .03 and 0, .03, .01
    assert fbr.background_target(cams, torch.ones(1, 2)).tolist() == [[[0.0, 1.0, 0.0, 1.0]]]


@pytest.mark.parametrize("shape", [(2, 6, 5, 5), (3, 3, 5, 5), (2, 3, 5)])
def test_scores_of_another_shape(shape):
    message = rf"logits \[2, 4, h, w\].*maps \[2, 3, h, w\].*got \({', '.join(map(str, shape))}\)"
    for function in (fbr.normalise_scores, fbr.background_target):
        with pytest.raises(ValueError, match=message):
            function(torch.zeros(shape), torch.zeros(2, 3))


def test_prototypes(case):
    scores, labels, features = case
    maps = fbr.normalise_scores(scores, labels)
    pseudo = maps.normalised.argmax(1)
    result = fbr.class_prototypes(features, maps.normalised, pseudo, topk=9)
    expected = naive.prototypes(features, maps.normalised, pseudo, topk=9)
    assert result.present.tolist() == [c in expected for c in range(1, 4)]
    double = fbr.class_prototypes(features.double(), maps.normalised, pseudo, topk=9)
    torch.testing.assert_close(double.vectors, result.vectors.double())
    for c, vector in expected.items():
        torch.testing.assert_close(result.vectors[c - 1], vector, rtol=1e-5, atol=1e-6)


def test_tied_scores_share_the_room_that_is_left():
    normalised = torch.tensor([0.0, 0.9, 0.5, 0.5, 0.5, 0.1]).expand(1, 2, 1, 6)
    features = torch.tensor([9.0, 1, 2, 4, 9, 9]).view(1, 1, 1, 6)
    result = fbr.class_prototypes(features, normalised, torch.ones(1, 1, 6).long(), topk=3)
    torch.testing.assert_close(result.vectors, torch.tensor([[(0.9 * 1 + 2 * 0.5 * 5) / 1.9]]))


def test_prototypes_do_not_depend_on_the_order_of_the_images(case):
    scores, labels, features = case
    maps = fbr.normalise_scores(scores.round(), labels).normalised.mul(4).round() / 4
    order = torch.tensor([2, 0, 3, 1])
    for topk in (1, 3, 9):
        one, other = (
            fbr.class_prototypes(own, given, given.argmax(1), topk).vectors
            for own, given in ((features, maps), (features[order], maps[order]))
        )
        torch.testing.assert_close(other, one)
        for c, vector in naive.prototypes(features, maps, maps.argmax(1), topk).items():
            torch.testing.assert_close(one[c - 1], vector)


def test_of_equal_scores_the_first_class_is_taken_and_background_first():
    maps = fbr.normalise_scores(torch.zeros(1, 3, 2, 2), torch.ones(1, 3), background_score=0.0).normalised
    assert not maps.argmax(1).any()
    assert (maps[:, 1:].argmax(1) == 0).all()


def test_absent_class_has_no_prototype():
    normalised = torch.rand(1, 3, 4, 4)
    result = fbr.class_prototypes(torch.rand(1, 5, 4, 4), normalised, torch.ones(1, 4, 4).long(), topk=3)
    assert result.present.tolist() == [True, False]
    assert (result.vectors[1] == 0).all()
    with pytest.raises(ValueError, match="topk must be at least 1, got 0"):
        fbr.class_prototypes(torch.rand(1, 5, 4, 4), normalised, torch.ones(1, 4, 4).long(), topk=0)


def test_semantic_graph(generator):
    vectors = torch.randn(4, 6, generator=generator)
    present = torch.tensor([True, True, False, True])
    graph = fbr.semantic_graph(vectors, present, TAU)
    for c in (0, 1, 3):
        others = [j for j in (0, 1, 3) if j != c]
        weight = {j: math.exp(naive.cosine(vectors[c], vectors[j]) / TAU) for j in others}
        for j in range(4):
            assert graph[c, j].item() == pytest.approx(weight.get(j, 0) / sum(weight.values()), abs=1e-6)
    assert (graph[2] == 0).all()


def test_one_class_has_no_other():
    graph = fbr.semantic_graph(torch.rand(3, 4), torch.tensor([False, True, False]))
    assert (graph == 0).all()


def test_active_sampling_follows_the_graph(generator):
    vectors = torch.randn(4, 3, generator=generator)
    graph = fbr.semantic_graph(vectors, torch.ones(4, dtype=torch.bool), 0.3)
    pseudo = torch.randint(0, 5, (300,), generator=generator)
    draws = 40_000
    pixels = fbr.sample_pixels(graph, pseudo, draws, generator)
    drawn = pseudo[pixels]
    for c in range(4):
        frequency = torch.bincount(drawn[c], minlength=5)[1:] / draws
        error = (graph[c] * (1 - graph[c]) / draws).sqrt()
        assert (frequency - graph[c]).abs().le(4.5 * error + 1e-9).all()
        # Within a class, pixels are uniform.
        j = int(graph[c].argmax())
        counts = torch.bincount(pixels[c], minlength=300)[pseudo == j + 1].double()
        expected = counts.sum() / len(counts)
        statistic = ((counts - expected).square() / expected).sum()
        assert statistic < len(counts) + 5 * (2 * len(counts)) ** 0.5


def test_sampling_never_draws_absent_classes_or_background(generator):
    present = torch.tensor([True, False, True, False])
    graph = fbr.semantic_graph(torch.rand(4, 3), present)
    pseudo = torch.tensor([0, 0, 1, 3, 3, 0, 1])
    drawn = fbr.sample_pixels(graph, pseudo, 500, generator)
    assert set(drawn[0].tolist()) == {3, 4}
    assert set(drawn[2].tolist()) == {2, 6}


def test_bank_draws_are_uniform_below_the_fill(generator):
    rows = fbr.sample_bank(torch.tensor(10), 3, 20_000, generator)
    assert rows.shape == (3, 20_000)
    frequency = torch.bincount(rows.flatten(), minlength=10) / rows.numel()
    assert len(frequency) == 10
    assert (frequency - 0.1).abs().max() < 4.5 * (0.09 / rows.numel()) ** 0.5
    assert (fbr.sample_bank(torch.tensor(0), 2, 5, generator) == 0).all()


@pytest.mark.parametrize("tile", [1, 3, 64])
def test_tiles_hold_every_row_once(tile, generator, monkeypatch):
    monkeypatch.setattr("fbr_plugin.functional.contrast.TILE", tile)
    classes = torch.randint(0, 5, (200,), generator=generator)  # 4 = takes no part
    tiles = fbr.group_by_class(classes, 4)
    seen = []
    for rows, c in zip(tiles.rows.tolist(), tiles.classes.tolist(), strict=True):
        held = [row for row in rows if row < 200]
        assert all(classes[row] == c for row in held)
        seen += held
    assert sorted(seen) == (classes < 4).nonzero().flatten().tolist()


def test_contrast_equals_the_double_loop(case):
    scores, labels, features = case
    features.requires_grad_()
    maps = fbr.normalise_scores(scores, labels)
    pseudo = maps.normalised.argmax(1)
    hard = fbr.hard_pixels(maps, pseudo)
    protos = naive.prototypes(features, maps.normalised, pseudo, topk=5)
    keys = torch.randn(3, 11, 5, generator=torch.Generator().manual_seed(1))
    expected = naive.contrast(features, hard, pseudo, protos, {c: keys[c - 1] for c in protos}, TAU)
    (expected_gradient,) = torch.autograd.grad(expected, features)

    vectors = fbr.class_prototypes(features, maps.normalised, pseudo, topk=5)
    queries = features.permute(0, 2, 3, 1).flatten(0, 2)
    tiles = fbr.group_by_class(torch.where(hard, pseudo - 1, 3).flatten(), 3)
    result = fbr.info_nce(queries, tiles, vectors.vectors, keys, vectors.present, TAU)
    (gradient,) = torch.autograd.grad(result.loss, features)
    torch.testing.assert_close(result.loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)
    assert gradient.abs().sum() > 0


@pytest.mark.slow
def test_shared_negatives_have_the_expectation_of_a_draw_for_each_query(generator):
    # One class of 4 queries; 3 negatives drawn from a population of 6.
    queries = torch.randn(4, 3, generator=generator)
    prototype = torch.randn(1, 3, generator=generator)
    population = torch.randn(6, 3, generator=generator)
    tiles = fbr.group_by_class(torch.zeros(4, dtype=torch.int64), 1)
    valid = torch.ones(1, dtype=torch.bool)

    def loss(index):
        return fbr.info_nce(queries, tiles, prototype, population[index][None], valid, TAU).loss.item()

    def per_query(index):
        losses = [
            fbr.info_nce(
                queries[n : n + 1],
                fbr.group_by_class(torch.zeros(1, dtype=torch.int64), 1),
                prototype,
                population[index[n]][None],
                valid,
                TAU,
            ).loss.item()
            for n in range(4)
        ]
        return sum(losses) / 4

    draws = 1500
    shared = torch.tensor([loss(torch.randint(6, (3,), generator=generator)) for _ in range(draws)])
    own = torch.tensor([per_query(torch.randint(6, (4, 3), generator=generator)) for _ in range(draws // 3)])
    error = (shared.var() / len(shared) + own.var() / len(own)).sqrt()
    assert abs(shared.mean() - own.mean()) < 4 * error


def test_no_tensor_has_queries_times_negatives(generator):
    number, negatives = 4096, 4096
    queries = torch.randn(number, 4, generator=generator).requires_grad_()
    keys = torch.randn(2, negatives, 4, generator=generator)
    tiles = fbr.group_by_class(torch.arange(number) % 2, 2)
    with MadeTensors() as made:
        valid = torch.ones(2, dtype=torch.bool)
        fbr.info_nce(queries, tiles, torch.ones(2, 4), keys, valid).loss.backward()
    assert 100_000 < max(made.sizes) < number * negatives / 16


@pytest.mark.parametrize("chunk", [1, 30, 2**14])
def test_chunks_change_nothing(chunk, generator, monkeypatch):
    monkeypatch.setattr("fbr_plugin.functional.contrast.TILE", 3)
    queries, keys = torch.randn(50, 4, generator=generator), torch.randn(3, 9, 4, generator=generator)
    tiles, found = fbr.group_by_class(torch.randint(0, 4, (50,), generator=generator), 3), []
    for size in (chunk, 10**9):
        monkeypatch.setattr("fbr_plugin.functional.contrast.CHUNK", size)
        leaf = queries.clone().requires_grad_()
        result = fbr.info_nce(leaf, tiles, keys[:, 0], keys[:, 1:], torch.tensor([True, False, True]))
        result.loss.backward()
        found.append((*result, leaf.grad))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second)


def test_closed_forms():
    tiles = fbr.group_by_class(torch.zeros(2, dtype=torch.int64), 1)
    valid = torch.ones(1, dtype=torch.bool)
    query = torch.tensor([[2.0, 0.0], [5.0, 0.0]])
    along, across = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    same = fbr.info_nce(query, tiles, along, along.expand(1, 7, 2), valid, TAU)
    assert same.loss.item() == pytest.approx(math.log(8), rel=1e-6)
    assert same.negative_similarity.item() == pytest.approx(1, rel=1e-6)  # their mean, not their sum
    best = fbr.info_nce(query, tiles, along, across.expand(1, 256, 2), valid, TAU)
    assert best.loss.item() == pytest.approx(math.log(1 + 256 * math.exp(-2)), rel=1e-6)
    assert (best.positive_similarity.item(), best.negative_similarity.item()) == (1.0, 0.0)


def test_the_mean_is_over_classes_that_have_queries_and_may_contribute():
    # Class 0 has three queries of loss log 2, class 2 one of log(1 + e^-2); 1 has none, 3 may not contribute.
    along, across = [1.0, 0.0], [0.0, 1.0]
    tiles = fbr.group_by_class(torch.tensor([0, 2, 0, 3, 0]), 4)
    prototypes, negatives = torch.tensor([along] * 4), torch.tensor([[along], [along], [across], [along]])
    valid = torch.tensor([True, True, True, False])
    result = fbr.info_nce(torch.tensor([along] * 5), tiles, prototypes, negatives, valid, TAU)
    assert result.loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-2))) / 2, rel=1e-6)
    assert (result.positive_similarity.item(), result.negative_similarity.item()) == (1.0, 0.5)
    assert result.num_classes == 2
    queries = torch.tensor([along] * 5, requires_grad=True)
    result = fbr.info_nce(queries, tiles, prototypes.requires_grad_(), negatives.requires_grad_(), valid, TAU)
    assert [value.requires_grad for value in result] == [True, False, False, False]
    result.loss.backward()
    assert (queries.grad is not None, prototypes.grad, negatives.grad) == (True, None, None)


def test_the_temperature_is_one_half_unless_given():
    along, across, valid = (
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[0.0, 1.0]]),
        torch.ones(1, dtype=torch.bool),
    )
    tiles = fbr.group_by_class(torch.zeros(1, dtype=torch.int64), 1)
    result = fbr.info_nce(along, tiles, along, across[None], valid)
    assert result.loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    prototypes = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    graph = fbr.semantic_graph(prototypes, torch.ones(3, dtype=torch.bool))
    assert graph[0].tolist() == pytest.approx([0, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])


def test_separation_is_the_mean_cosine_of_pixels():
    first = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-5, 0.0], [2.0, 0.0]]).T.view(1, 2, 2, 2)
    second = torch.tensor([[4.0, 3.0], [1.0, 0.0], [1e-5, 0.0], [0.0, 5.0]]).T.view(1, 2, 2, 2)
    # 24/25, a pixel without activation, one whose product of norms is below the bound of 1e-8, a right angle
    assert fbr.separation(first, second).item() == pytest.approx(
        (24 / 25 + 0 + 1e-10 / 1e-8 + 0) / 4, rel=1e-5
    )


def test_no_queries_is_a_zero_with_a_gradient():
    queries = torch.randn(6, 3, requires_grad=True)
    for classes, valid in [(2, True), (0, False)]:
        tiles = fbr.group_by_class(torch.full((6,), classes), 2)
        result = fbr.info_nce(
            queries, tiles, torch.rand(2, 3), torch.rand(2, 4, 3), torch.full((2,), valid), TAU
        )
        assert result.loss.item() == 0
        (gradient,) = torch.autograd.grad(result.loss, queries)
        assert (gradient == 0).all()


def test_zero_vectors_have_finite_gradients():
    queries = torch.zeros(3, 4, requires_grad=True)
    tiles = fbr.group_by_class(torch.zeros(3, dtype=torch.int64), 1)
    result = fbr.info_nce(
        queries, tiles, torch.zeros(1, 4), torch.zeros(1, 5, 4), torch.ones(1, dtype=torch.bool)
    )
    result.loss.backward()
    assert result.loss.isfinite()
    assert queries.grad.isfinite().all()


def test_activation_maps_become_seeds(generator):
    scores, label = torch.randn(2, 3, 5, 5, generator=generator), torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    scores[0, 2] = 0
    seeds = fbr.cams_to_seeds(scores, label)
    assert torch.equal(seeds[0, 0], scores[0, 0].relu() / scores[0, 0].max())
    assert seeds.amax((2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert seeds.min() == 0
    assert fbr.cams_to_seeds(torch.full((1, 1, 2, 2), 1e-40), torch.ones(1, 1)).isfinite().all()


def test_two_maps_of_each_class_are_averaged_to_seeds(generator):
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    maps = torch.rand(2, 6, 5, 5, generator=generator) - 0.2
    first, second = (part.relu() / part.amax((2, 3), keepdim=True) for part in maps.split(3, 1))
    mean = (first + second) / 2 * labels[..., None, None]
    expected = mean / mean.amax((2, 3), keepdim=True).clamp_min(1e-9)
    torch.testing.assert_close(fbr.cams_to_seeds(maps, labels), expected)
