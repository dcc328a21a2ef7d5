"""The class-aware gate: its banks, what it learns of a scene, and the scores that it lowers."""

import io
from collections import deque
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fbr_plugin import DenseView, GateConfig, ViewShape, gate_scores
from fbr_plugin import functional as fbr
from fbr_plugin.modules.class_bank import ClassBank
from fbr_plugin.modules.class_gate import ClassAwareGate

CONFIG = GateConfig(enabled=True, num_clusters=8, recluster_every=2)
SHAPE = ViewShape(5, 3, level_channels=9)
OBJECTS, TEXTURES, GROUND = (0, 1), (2, 3), 4  # axes of the features


def held(bank: ClassBank, kind: int) -> list[float]:
    """The numbers that the ring of a class holds, the oldest first."""
    pointer, fill = int(bank.pointer[kind]), int(bank.fill[kind])
    ring = bank.rows[kind, :-1, 0].tolist()
    return ring[:fill] if fill < bank.size else ring[pointer:] + ring[:pointer]


def test_bank_equals_a_queue_a_class(generator):
    bank, queues = ClassBank(3, 5, 2), [deque(maxlen=5) for _ in range(3)]
    number, most = 0, 0
    for step in range(40):
        count = int(torch.randint(1, 24, (), generator=generator))
        numbers = torch.arange(number + 1, number + count + 1)
        number += count
        classes = torch.randint(3, (count,), generator=generator) * (step % 4 > 0)  # or all of the first
        mask = torch.rand(count, generator=generator) < (0.0, 0.2, 0.9, 1.0)[step // 10]
        bank.enqueue(numbers[:, None].float().expand(-1, 2), classes, mask)
        for row, kind in zip(numbers[mask].tolist(), classes[mask].tolist(), strict=True):
            queues[kind].append(row)
        most = max(most, *(int((mask & (classes == kind)).sum()) for kind in range(3)))
        for kind, queue in enumerate(queues):
            assert held(bank, kind) == list(queue), (step, kind)
        filled = [[True] * len(queue) + [False] * (5 - len(queue)) for queue in queues]
        assert bank.mask()[:, :-1].tolist() == filled
        assert not bank.mask()[:, -1].any()
        assert bank.fill.tolist() == [len(queue) for queue in queues]
        assert torch.equal(bank.rows[:, :-1, 0], bank.rows[:, :-1, 1])
    assert most > 5  # more at once than a ring holds


def test_bank_with_nothing_to_add():
    bank = ClassBank(2, 3, 4)
    bank.enqueue(torch.ones(5, 4), torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.bool))
    assert not bank.rows[:, :-1].any()
    assert bank.fill.tolist() == bank.pointer.tolist() == [0, 0]
    assert not bank.mask().any()


def test_bank_s_state_dict_holds_everything():
    bank, other = ClassBank(2, 3, 4), ClassBank(2, 3, 4)
    bank.enqueue(torch.rand(5, 4), torch.tensor([0, 1, 0, 0, 0]), torch.ones(5, dtype=torch.bool))
    other.load_state_dict(bank.state_dict())
    assert set(bank.state_dict()) == {"rows", "pointer", "fill"}
    assert bank.pointer.dtype == bank.fill.dtype == torch.int64
    more = torch.rand(3, 4), torch.tensor([1, 0, 1]), torch.ones(3, dtype=torch.bool)
    for each in (bank, other):
        each.enqueue(*more)
    for name, value in bank.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def scene(kind: int, strays: bool, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """An image [6, 16, 16], an object of a class and that class's texture on ground, and its kinds [16, 16].

    The first class's texture occurs with the second class too, if it strays.
    """
    kinds = torch.full((16, 16), GROUND)
    kinds[2:6, 2:14] = OBJECTS[kind]
    kinds[6:10] = TEXTURES[kind]
    if strays and kind == 1:
        kinds[11:15] = TEXTURES[0]
    features = torch.eye(6)
    features[TEXTURES, OBJECTS] = 0.3
    image = features[kinds].permute(2, 0, 1) + 0.05 * torch.randn(6, 16, 16, generator=generator)
    return image, kinds


def batch(
    generator: torch.Generator,
    strays: bool = True,
    classes: tuple[int, ...] = (0, 1, 0, 1),
    score: float = 0.9,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features [B, 6, 16, 16], scores [B, 2, 16, 16], labels [B, 2] and kinds [B, 16, 16] of scenes.

    Scores are 0.95 on the object and `score` on its texture, which a classifier takes for the class too.
    """
    images, kinds = zip(*(scene(kind, strays, generator) for kind in classes), strict=True)
    labels, kinds = F.one_hot(torch.tensor(classes), 2).float(), torch.stack(kinds)
    scores = torch.stack(
        [0.95 * (kinds == OBJECTS[c]).float() + score * (kinds == TEXTURES[c]).float() for c in (0, 1)], 1
    )
    return torch.stack(images), scores * labels[..., None, None], labels, kinds


def learned(strays: bool, generator: torch.Generator, steps: int = 40, score: float = 0.9) -> ClassAwareGate:
    """A gate that has seen batches of scenes."""
    gate = ClassAwareGate(ViewShape(6, 2), replace(CONFIG, recluster_every=10))
    for _ in range(steps):
        features, scores, labels, _ = batch(generator, strays, score=score)
        gate.update(DenseView(features, scores, labels))
    return gate


@pytest.mark.parametrize("strays", [True, False])
def test_it_tells_an_object_from_a_texture_that_strays(strays, generator):
    gate = learned(strays, generator)
    features, _, _, kinds = batch(generator, strays, (0, 1))
    values = gate([features])
    assert values.shape == (2, 2, 16, 16)
    assert values[0, 0][kinds[0] == OBJECTS[0]].min() > 0.9
    assert values[1, 1][kinds[1] == OBJECTS[1]].min() > 0.9
    assert values[1, 1][kinds[1] == TEXTURES[1]].min() > 0.9  # never strays
    texture = values[0, 0][kinds[0] == TEXTURES[0]]
    assert texture.median() < 0.3 if strays else texture.min() > 0.9
    # What is remembered: of a class its object, of the background what is outside both.
    assert [int(rows[:, :5].mean(0).argmax()) for rows in gate.pixels.rows[:, :100]] == list(OBJECTS)
    remembered = gate.background.nrois[: int(gate.background.fill), :5].argmax(1)
    assert set(remembered.tolist()) == {GROUND, TEXTURES[0]} if strays else {GROUND}


def test_prototypes_leave_a_texture_that_strays_though_it_scores_best(generator):
    gate = learned(True, generator, steps=80, score=1.0)
    latest = [[number % 256 for number in range(pointer - 32, pointer)] for pointer in gate.pixels.pointer]
    kinds = [rows[index, :5].argmax(1).tolist() for rows, index in zip(gate.pixels.rows, latest, strict=True)]
    assert kinds[0] == [OBJECTS[0]] * 32
    assert kinds[1] == [TEXTURES[1]] * 32  # it occurs with its class alone: nothing tells it apart
    features, _, _, kinds = batch(generator, True, (0,))
    values = gate([features])[0, 0]
    assert values[kinds[0] == OBJECTS[0]].min() > 0.9
    assert values[kinds[0] == TEXTURES[0]].median() < 0.3


def make_view(seed: int = 0, classes: int = 3) -> DenseView:
    """A view of 4 images and 5 channels with two levels of 4 and 5."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])[:, :classes]
    features = torch.randn(4, 5, 6, 6, generator=generator).requires_grad_()
    scores = torch.randn(4, classes, 6, 6, generator=generator)
    levels = (torch.randn(4, 4, 12, 12, generator=generator).requires_grad_(), features)
    return DenseView(features, scores, labels, levels=levels)


def train(gate: ClassAwareGate, steps: int = 6, start: int = 0, **labels: torch.Tensor) -> None:
    """Steps on views of their own."""
    for step in range(start, start + steps):
        gate.update(replace(make_view(step, gate.shape.num_classes), **labels))


def make_gate(classes: int = 3, **config: int) -> ClassAwareGate:
    """A gate that learns every second step."""
    torch.manual_seed(0)
    return ClassAwareGate(replace(SHAPE, num_classes=classes), replace(CONFIG, **config))


def test_it_remembers_background_and_the_best_of_each_class():
    gate, view = make_gate(), make_view()
    terms = gate.update(view)
    rows = fbr.hypercolumns(view.levels, (6, 6)).flatten(2).transpose(1, 2)
    bank, counts = gate.background, [0] * 4
    for row, labels in zip(bank.nrois[: bank.fill], bank.labels[: bank.fill], strict=True):
        ((image, pixel),) = (rows == row).all(-1).nonzero().tolist()
        assert terms.pseudo_labels[image].flatten()[pixel] == 0
        assert torch.equal(labels, view.labels[image] > 0)
        counts[image] += 1
    background = (terms.pseudo_labels == 0).sum((1, 2))
    assert counts == background.clamp_max(CONFIG.background_pixels).tolist()
    for c in range(3):  # 1 of 32 pixels, of 36
        best = [rows[i, view.scores[i, c].flatten().argmax()] for i in range(4) if view.labels[i, c]]
        assert torch.equal(gate.pixels.rows[c, : len(best)], torch.stack(best))
        assert gate.pixels.fill[c] == len(best)


def test_what_is_no_background_and_what_has_no_score_is_not_remembered():
    gate, view = make_gate(background_score=0.6), make_view()
    scores = torch.zeros(4, 3, 6, 6)
    scores[0, 0] = 1.0  # constant, so that every normalised score of the class is 0
    scores[1, 1, :, 1:] = torch.linspace(0.7, 1, 30).view(6, 5)  # six pixels of background
    scores[2, 0, 0, 0], scores[3, 2, 0, :2] = 1.0, torch.tensor([1.0, 0.5])
    terms = gate.update(replace(view, scores=scores))
    assert (terms.pseudo_labels == 0).sum((1, 2)).tolist() == [36, 6, 35, 35]
    assert gate.background.fill == 8 + 6 + 8 + 8
    assert gate.pixels.fill.tolist() == [1, 1, 1]


def test_only_remembered_rows_are_clustered(monkeypatch):
    gate, masks, original = make_gate(recluster_every=1), [], fbr.background_clusters

    def recording(rows, labels, mask, *args, **kwargs):
        masks.append(mask)
        return original(rows, labels, mask, *args, **kwargs)

    monkeypatch.setattr(fbr, "background_clusters", recording)
    train(gate, 1)
    assert masks[0].nonzero().flatten().tolist() == [*range(int(gate.background.fill))]
    lengths = gate.prototypes.norm(dim=-1)  # of unit length, or unused
    torch.testing.assert_close(lengths, (lengths > 0).float())
    assert (lengths > 0).sum(1).tolist() == gate.pixels.fill.tolist()


def test_before_the_first_renewal_the_gate_is_1():
    gate, probe = make_gate(), make_view(99)
    gates = []
    for step in range(CONFIG.recluster_every + 1):
        gates.append(gate(probe.levels))
        train(gate, 1, step)
        if step < CONFIG.recluster_every:
            seeds = torch.rand(2, 3, 5, 5)
            assert torch.equal(gate.match(seeds), seeds) == (step + 1 < CONFIG.recluster_every)
    assert all((gate == 1).all() for gate in gates)
    assert (gate(probe.levels) < 1).any()


def test_it_takes_the_features_where_a_view_has_no_levels():
    torch.manual_seed(0)
    gate, view = ClassAwareGate(ViewShape(5, 3), CONFIG), make_view()
    alone = ClassAwareGate(ViewShape(5, 3), CONFIG)
    alone.load_state_dict(gate.state_dict())
    for step in range(4):
        each = make_view(step)
        gate.update(replace(each, levels=()))
        alone.update(replace(each, levels=(each.features,)))
    values = gate((view.features,))
    assert (values < 1).any()
    assert torch.equal(values, alone((view.features,)))


def test_nothing_has_a_gradient():
    gate, view = make_gate(), make_view()
    train(gate)
    gate.update(view)
    values = gate(view.levels)
    assert (values < 1).any()
    assert not values.requires_grad
    assert not list(gate.parameters())
    assert not any(value.requires_grad for value in gate.state_dict(keep_vars=True).values())


def test_matched_seeds_keep_the_scale_of_ungated_ones(generator):
    gate = ClassAwareGate(ViewShape(6, 2), replace(CONFIG, recluster_every=10))
    for _ in range(60):
        features, scores, labels, kinds = batch(generator)
        scores = scores + 0.2 * torch.rand(scores.shape, generator=generator)
        gate.update(DenseView(features, scores, labels))
    ungated, gated = (
        fbr.cams_to_seeds(fbr.resize(maps, (64, 64)), labels)
        for maps in (scores, gate_scores(gate, scores, [features]))
    )
    matched, own = gate.match(gated), labels[..., None, None].expand_as(gated) > 0
    assert gated[own].mean() < 0.85 * ungated[own].mean()
    for share in (0.3, 0.5, 0.7, 0.9):
        assert abs(matched[own].quantile(share) - ungated[own].quantile(share)) < 0.03
    order = gated[own].argsort()
    assert (matched[own][order].diff() >= 0).all()
    first = labels[:, 0] > 0
    kinds = kinds.repeat_interleave(4, 1).repeat_interleave(4, 2)
    objects, texture = ((kinds == kind)[first] for kind in (OBJECTS[0], TEXTURES[0]))
    assert matched[first, 0][texture].mean() < 0.8 * ungated[first, 0][texture].mean()
    assert matched[first, 0][objects].mean() > matched[first, 0][texture].mean() + 0.2


def test_the_scale_may_be_left_as_it_is(generator):
    gate, other = (ClassAwareGate(SHAPE, replace(CONFIG, keep_scale=keep)) for keep in (False, True))
    train(gate)
    seeds = torch.rand(2, 3, 6, 6, generator=generator)
    assert gate.reclusters > 0
    assert torch.equal(gate.match(seeds), seeds)
    other.load_state_dict(gate.state_dict())  # it may be chosen after training
    assert not torch.equal(other.match(seeds), seeds)


def test_seeds_of_other_maps_than_the_scores(generator):
    gate, scores = make_gate(), torch.rand(4, 6, 6, 6, generator=generator)
    views = [replace(make_view(step), seed_scores=scores) for step in range(4)]
    for view in views:
        gate.update(view)
    labels = views[0].labels
    expected = fbr.score_histogram(fbr.cams_to_seeds(fbr.resize(scores, (12, 12)), labels))
    found = gate.distributions[0] / gate.distributions[0].sum()
    torch.testing.assert_close(found, expected / expected.sum())


def test_the_scale_is_learned_in_single_precision_of_half_precision_scores():
    gate, other = make_gate(), make_gate()
    for step in range(4):
        view = make_view(step)
        rounded = view.scores.half()
        gate.update(replace(view, scores=rounded))
        other.update(replace(view, scores=rounded.float()))
    assert torch.equal(gate.distributions, other.distributions)


def test_the_scale_of_logits(generator):
    gate, logits = (
        make_gate(decay=0.0),
        torch.randn(4, 4, 6, 6, generator=generator),
    )  # only the last step counts
    for step in range(4):
        view = replace(make_view(step), scores=logits)
        terms = gate.update(view)
    assert (terms.gate < 0.5).any()
    for found, scores in zip(
        gate.distributions, (logits, fbr.lower_scores(logits, terms.gate, logits=True)), strict=True
    ):
        seeds = fbr.normalise_scores(fbr.resize(scores, (12, 12)), view.labels).normalised[:, 1:]
        expected = fbr.score_histogram(seeds)
        torch.testing.assert_close(found, expected / expected.sum())


def test_negative_maps_count_as_zeros():
    gate, other = make_gate(), make_gate()
    for step in range(4):
        view = make_view(step)
        gate.update(view)
        other.update(replace(view, scores=view.scores.relu()))
    assert (gate.distributions[1] != gate.distributions[0]).any()
    assert torch.equal(gate.distributions, other.distributions)


def test_two_maps_of_the_only_class_are_no_logits(generator):
    gate = ClassAwareGate(replace(SHAPE, num_classes=1), CONFIG)
    view, maps = make_view(0), torch.rand(4, 2, 6, 6, generator=generator)
    labels = torch.ones(4, 1)
    for _ in range(4):
        gate.update(replace(view, scores=view.scores[:, :1], labels=labels, seed_scores=maps))
    expected = fbr.score_histogram(fbr.cams_to_seeds(fbr.resize(maps, (12, 12)), labels))
    found = gate.distributions[0] / gate.distributions[0].sum()
    torch.testing.assert_close(found, expected / expected.sum())


def test_evaluation_leaves_the_gate_alone():
    gate = make_gate()
    train(gate)
    before = {name: value.clone() for name, value in gate.state_dict().items()}
    train(gate.eval(), 2)
    for name, value in gate.state_dict().items():
        assert torch.equal(value, before[name]), name
    train(gate.train(), 2)
    assert not torch.equal(gate.clusters, before["clusters"])


@pytest.mark.filterwarnings("ignore:The class-aware gate met NaN")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_adds_nothing(value, monkeypatch):
    gate, probe = make_gate(), make_view(99)
    train(gate, 6)
    before, values = {n: v.clone() for n, v in gate.state_dict().items()}, gate(probe.levels)
    assert (values < 1).any()
    broken = make_view(7)
    with torch.no_grad():
        broken.features[1, 2, 3, 3] = value
    assert not gate.update(broken).finite
    after = gate.state_dict()
    total, count = before.pop("similarity")
    torch.testing.assert_close(after["similarity"][0] / after["similarity"][1], total / count)
    last = slice(-1)  # without the row that takes what is masked out
    used = {"background.nrois": last, "background.labels": last, "pixels.rows": (slice(None), last)}
    for name in before.keys() - {"_extra_state", "skipped.count"}:  # which count the step
        held = before[name]
        assert torch.equal(after[name][used.get(name, ...)], held[used.get(name, ...)]), name
    torch.testing.assert_close(gate(probe.levels), values)
    train(gate, 3, 8)  # with the next renewal
    assert gate(probe.levels).isfinite().all()


def test_scores_that_are_not_finite_count_as_0():
    states = []
    for value in (float("nan"), 0.0):
        gate, view = make_gate(), make_view()
        view.scores[0, 0, 2, 3] = value
        gate.update(view)
        states.append(gate.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_class_of_all_images_is_not_gated():
    gate, probe = make_gate(), make_view(99)
    train(gate, labels=torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]]))
    values = gate(probe.levels)
    assert (values[:, 0] == 1).all()
    assert (values[:, 1:] < 1).any()
    single = make_gate(1)
    train(single, labels=torch.ones(4, 1))
    assert single.clusters.any()
    assert single.prototypes.any()
    assert (single(probe.levels) == 1).all()


def test_a_class_of_no_image_is_not_gated():
    gate, probe = make_gate(), make_view(99)
    train(gate, labels=torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]]))
    values = gate(probe.levels)
    assert (values[:, 2] == 1).all()
    assert (values[:, :2] < 1).any()


def test_images_without_a_class_are_background():
    gate, probe = make_gate(), make_view(99)
    train(gate, 4, labels=torch.zeros(4, 3))
    assert gate.pixels.fill.tolist() == [0, 0, 0]
    assert gate.background.fill == 4 * 4 * CONFIG.background_pixels
    assert gate.class_absent.any(0).all()
    assert (gate(probe.levels) == 1).all()  # for want of an image that has a class
    train(gate, 4, 4)
    assert (gate(probe.levels) < 1).any()


def test_state_dict_restores_the_gate():
    whole, probe = make_gate(), make_view(99)
    train(whole, 5)
    saved = io.BytesIO()
    torch.save(whole.state_dict(), saved)
    torch.manual_seed(99)
    resumed = ClassAwareGate(SHAPE, CONFIG)
    saved.seek(0)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for start in (5, 8):
        values = whole(probe.levels)
        assert (values < 1).any()
        assert torch.equal(resumed(probe.levels), values)
        for gate in (whole, resumed):
            train(gate, 3, start)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_follows_the_precision(dtype):
    gate, exact, probe = make_gate(), make_gate(), make_view(99)
    train(exact)
    given = tuple(level.detach().to(dtype) for level in probe.levels)
    expected = exact(given)
    assert (expected < 0.5).any()
    converted = deepcopy(exact).to(dtype)
    assert converted.clusters.dtype == dtype
    values = converted(given)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected, rtol=0, atol=0.3 if dtype == torch.bfloat16 else 1e-5)
    gate = gate.to(dtype)
    for step in range(4):
        view = make_view(step)
        levels = tuple(level.detach().to(dtype) for level in view.levels)
        view = replace(view, features=levels[1], scores=view.scores.to(dtype), levels=levels)
        gate.update(view)
    assert (gate(given) < 1).any()


def test_autocast_does_not_change_it():
    gate, probe = make_gate(), make_view(99)
    train(gate)
    expected = gate(probe.levels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gate(probe.levels), expected)


def test_running_means_decay(monkeypatch):
    gate = make_gate(decay=0.5)
    found = iter(torch.tensor([[0.8, 0.4, torch.nan], [0.2, torch.nan, torch.nan]]))
    counts = iter(F.one_hot(torch.tensor([3, 3, 5, 7]), fbr.BINS) * torch.tensor([[10.0], [4], [1], [6]]))
    monkeypatch.setattr(fbr, "background_similarity", lambda *_, **__: next(found))
    monkeypatch.setattr(fbr, "score_histogram", lambda _: next(counts))
    train(gate, 2)
    torch.testing.assert_close(gate.similarity, torch.tensor([[0.6, 0.2, 0], [1.5, 0.5, 0]]))
    ungated, gated = gate.distributions
    assert (ungated[3], ungated[5], ungated.sum()) == (0.5, 1, 1.5)
    assert (gated[3], gated[7], gated.sum()) == (0.5, 1, 1.5)


def test_a_class_that_stays_away_keeps_its_reach():
    gate, probe = make_gate(), make_view(99)
    train(gate)
    values = gate(probe.levels)
    gate.similarity *= 1e-9
    torch.testing.assert_close(gate(probe.levels), values)


@pytest.mark.filterwarnings("default")
def test_skipped_steps_are_warned_of():
    features = torch.rand(2, 5, 4, 4).index_fill_(1, torch.tensor([2]), torch.nan)
    gate = ClassAwareGate(ViewShape(5, 3))
    with pytest.warns(UserWarning, match="The class-aware gate met NaN or infinite features"):
        terms = gate.update(DenseView(features, torch.rand(2, 3, 4, 4), torch.ones(2, 3)))
    assert not terms.finite
    assert int(gate.skipped.count) == 1
    assert gate.skipped.count.dtype == torch.int64


def test_levels_of_other_widths():
    view, gate = make_view(), ClassAwareGate(ViewShape(5, 3))
    for use in (lambda: gate.update(view), lambda: gate(view.levels)):
        with pytest.raises(ValueError, match=r"made for 5 channels.*have 4, 5.*level_channels=9"):
            use()
    for levels in ((), (torch.rand(2, 2, 4, 4), torch.rand(3, 3, 4, 4)), (torch.rand(2, 5, 4),)):
        with pytest.raises(ValueError, match=r"one or more \[B, L, h, w\]"):
            gate(levels)


def test_steps_count_for_the_reclustering_and_not_views():
    gate = ClassAwareGate(ViewShape(5, 3, 2, 9), replace(CONFIG, recluster_every=3))
    counts = [gate.update(make_view(step), index).reclusters.item() for step in range(6) for index in (0, 1)]
    assert counts == [0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 4]  # once for each view


def test_its_own_figures():
    gate, view = make_gate(), make_view()
    first = gate.update(view)
    assert first.mean_gate == 1
    assert first.bank_fill == gate.background.fill > 0
    assert first.class_absent_clusters == first.reclusters == 0
    train(gate, 5, 1)
    assert (first.bank_fill, first.reclusters) == (4 * CONFIG.background_pixels, 0)  # as they were
    assert not first.distributions.equal(gate.distributions)
    last = gate.update(view)
    assert last.reclusters == 3
    assert 0 < last.mean_gate < 1
    assert last.class_absent_clusters == gate.class_absent.sum() / 3 > 0
    present = (view.labels > 0)[..., None, None].expand(-1, -1, 6, 6)
    before = make_gate()
    train(before, 6)
    values = before(view.levels, (6, 6))
    torch.testing.assert_close(before.eval().update(view).mean_gate, values[present].mean())
    torch.testing.assert_close(last.mean_gate, last.gate[present].mean())
    assert last.distributions.equal(gate.distributions)
    renewed = gate.update(view)
    assert renewed.reclusters == gate.reclusters == 4
    assert renewed.class_absent_clusters == gate.class_absent.sum() / 3


def test_the_mean_gate_of_few_classes():
    gate, view = make_gate(), make_view()
    train(gate)
    gate.eval()
    none, one = torch.zeros(4, 3), torch.zeros(4, 3)
    one[2, 1] = 1
    assert gate.update(replace(view, labels=none)).mean_gate == 1
    terms = gate.update(replace(view, labels=one))
    torch.testing.assert_close(terms.mean_gate, terms.gate[2, 1].mean())
    assert terms.mean_gate < 1


def test_scores_of_the_only_class():
    gate = ClassAwareGate(ViewShape(4, 1)).eval()
    scores, levels = torch.rand(2, 1, 3, 3), [torch.rand(2, 4, 3, 3)]
    assert torch.equal(gate_scores(gate, scores, levels), scores)
    with pytest.raises(ValueError, match=r"scores must be maps \[B, 1, h, w\]"):
        gate_scores(gate, scores[:, 0], levels)


def test_scores_are_lowered():
    gate, view = make_gate(), make_view()
    train(gate)
    levels, values = view.levels, gate(view.levels, (6, 6))
    assert (values < 1).any()
    cams = torch.rand(4, 6, 6, 6)  # two maps of each class
    cams -= cams.amin((2, 3), keepdim=True)
    torch.testing.assert_close(gate_scores(gate, cams, levels), cams * torch.cat([values, values], 1))
    logits = torch.randn(4, 4, 6, 6)
    lowered = gate_scores(gate, logits, levels, logits=True)
    assert torch.equal(lowered[:, 0], logits[:, 0])
    torch.testing.assert_close(lowered[:, 1:].exp(), logits[:, 1:].exp() * values)


@pytest.mark.parametrize(
    ("shape", "logits"),
    [((4, 4, 6, 6), False), ((4, 3, 6, 6), True), ((3, 3, 6, 6), False), ((4, 3, 6), False)],
)
def test_scores_of_another_shape(shape, logits):
    with pytest.raises(ValueError, match=r"scores must be (logits|maps)"):
        gate_scores(make_gate(), torch.rand(shape), make_view().levels, logits)


def test_something_else_in_place_of_the_gate():
    for other in (None, torch.nn.Linear(1, 1)):
        with pytest.raises(TypeError, match=r"ClassAwareGate, got (NoneType|Linear).*self.gate_scores"):
            gate_scores(other, torch.rand(1, 3, 2, 2), [torch.rand(1, 5, 2, 2)])


def test_negative_maps_are_refused():
    gate = ClassAwareGate(ViewShape(4, 2)).eval()
    with pytest.raises(
        ValueError, match=r"^scores must not be negative, or a gate raises them: give maps after"
    ):
        gate_scores(gate, -torch.ones(1, 2, 3, 3), [torch.ones(1, 4, 3, 3)])
