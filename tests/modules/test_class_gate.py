"""The class-aware gate: its banks, what it learns of a scene, and its place in FBRLoss."""

import io
from collections import deque
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fbr_plugin import DenseView, FBRConfig, FBRLoss
from fbr_plugin import functional as fbr
from fbr_plugin.modules import class_gate
from fbr_plugin.modules.class_gate import ClassAwareGate, ClassBank

CONFIG = FBRConfig(dim=6, num_clusters=3, bank_size=200, min_bank=4, num_negatives=9, gate=True, gate_words=8)
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
    gate = ClassAwareGate(6, 2, CONFIG)
    for step in range(1, steps + 1):
        features, scores, labels, _ = batch(generator, strays, score=score)
        background = scores.amax(1) < 0.1
        gate.observe([features], scores, labels, background, torch.tensor(True), step, generator)
    return gate


@pytest.mark.parametrize("strays", [True, False])
def test_it_tells_an_object_from_a_texture_that_strays(strays, generator, monkeypatch):
    monkeypatch.setattr(class_gate, "REFRESH", 10)
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


def test_prototypes_leave_a_texture_that_strays_though_it_scores_best(generator, monkeypatch):
    monkeypatch.setattr(class_gate, "REFRESH", 10)
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


def train(loss: FBRLoss, steps: int = 6, start: int = 0, **labels: torch.Tensor) -> None:
    """Steps on views of their own."""
    for step in range(start, start + steps):
        loss(replace(make_view(step, loss.num_classes), **labels))


def make_loss(classes: int = 3) -> FBRLoss:
    """FBR's loss with a gate."""
    torch.manual_seed(0)
    return FBRLoss(5, classes, CONFIG, level_channels=9)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gate learn every second step."""
    monkeypatch.setattr(class_gate, "REFRESH", 2)


def test_it_remembers_background_and_the_best_of_each_class():
    loss, view = make_loss(), make_view()
    terms = loss(view)
    rows = fbr.describe(view.levels, (6, 6)).flatten(2).transpose(1, 2)
    bank, counts = loss.gate.background, [0] * 4
    for row, labels in zip(bank.nrois[: bank.fill], bank.labels[: bank.fill], strict=True):
        ((image, pixel),) = (rows == row).all(-1).nonzero().tolist()
        assert terms.pseudo_labels[image].flatten()[pixel] == 0
        assert torch.equal(labels, view.labels[image] > 0)
        counts[image] += 1
    background = (terms.pseudo_labels == 0).sum((1, 2))
    assert counts == background.clamp_max(class_gate.IMAGE_PIXELS).tolist()
    for c in range(3):  # 1 of 32 pixels, of 36
        best = [rows[i, view.scores[i, c].flatten().argmax()] for i in range(4) if view.labels[i, c]]
        assert torch.equal(loss.gate.pixels.rows[c, : len(best)], torch.stack(best))
        assert loss.gate.pixels.fill[c] == len(best)


def test_before_the_first_renewal_the_gate_is_1():
    loss, probe = make_loss(), make_view(99)
    gates = []
    for step in range(class_gate.REFRESH + 1):
        gates.append(loss.gate(probe.levels))
        train(loss, 1, step)
    assert all((gate == 1).all() for gate in gates)
    assert (loss.gate(probe.levels) < 1).any()


@pytest.mark.usefixtures("quick")
def test_it_takes_the_features_where_a_view_has_no_levels():
    torch.manual_seed(0)
    loss, view = FBRLoss(5, 3, CONFIG), make_view()
    alone = FBRLoss(5, 3, CONFIG)
    alone.load_state_dict(loss.state_dict())
    for step in range(4):
        each = make_view(step)
        loss(replace(each, levels=()))
        alone(replace(each, levels=(each.features,)))
    gate = loss.gate((view.features,))
    assert (gate < 1).any()
    assert torch.equal(gate, alone.gate((view.features,)))


def test_without_the_setting_there_is_no_gate():
    loss = FBRLoss(5, 3, replace(CONFIG, gate=False))
    assert loss.gate is None
    assert not any("gate" in name for name in loss.state_dict())


@pytest.mark.usefixtures("quick")
def test_every_term_is_what_it_is_without_a_gate():
    loss, bare = make_loss(), FBRLoss(5, 3, replace(CONFIG, gate=False))
    bare.load_state_dict({name: value for name, value in loss.state_dict().items() if "gate." not in name})
    for step in range(4):
        gated, plain = loss(make_view(step)), bare(make_view(step))
        for name, one, other in zip(plain._fields, gated, plain, strict=True):
            assert torch.equal(one, other), (step, name)
    for name, value in bare.banks.state_dict().items():
        assert torch.equal(loss.banks.state_dict()[name], value), name


@pytest.mark.usefixtures("quick")
def test_nothing_has_a_gradient():
    loss, view = make_loss(), make_view()
    train(loss)
    loss(view)
    gate = loss.gate(view.levels)
    assert (gate < 1).any()
    assert not gate.requires_grad
    assert not list(loss.gate.parameters())
    assert not any(value.requires_grad for value in loss.gate.state_dict(keep_vars=True).values())


@pytest.mark.usefixtures("quick")
def test_evaluation_leaves_the_gate_alone():
    loss = make_loss()
    train(loss)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    train(loss.eval(), 2)
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name]), name
    train(loss.train(), 2)
    assert not torch.equal(loss.gate.words, before["gate.words"])


@pytest.mark.filterwarnings("ignore:FBR met NaN")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_adds_nothing(value, monkeypatch):
    monkeypatch.setattr(class_gate, "REFRESH", 4)
    loss, probe = make_loss(), make_view(99)
    train(loss, 6)
    before, gate = {n: v.clone() for n, v in loss.gate.state_dict().items()}, loss.gate(probe.levels)
    assert (gate < 1).any()
    broken = make_view(7)
    with torch.no_grad():
        broken.features[1, 2, 3, 3] = value
    assert not loss(broken).finite
    after = loss.gate.state_dict()
    total, count = before.pop("reached")
    torch.testing.assert_close(after["reached"][0] / after["reached"][1], total / count)
    last = slice(-1)  # without the row that takes what is masked out
    used = {"background.nrois": last, "background.labels": last, "pixels.rows": (slice(None), last)}
    for name, held in before.items():
        assert torch.equal(after[name][used.get(name, ...)], held[used.get(name, ...)]), name
    torch.testing.assert_close(loss.gate(probe.levels), gate)
    train(loss, 3, 8)  # with the next renewal
    assert loss.gate(probe.levels).isfinite().all()


def test_the_gate_alone_warns_of_skipped_steps():
    features = torch.rand(2, 5, 4, 4).index_fill_(1, torch.tensor([2]), torch.nan)
    loss = FBRLoss(5, 3, FBRConfig.recommended())
    with pytest.warns(UserWarning, match="NaN or infinite features"):
        terms = loss(DenseView(features, torch.rand(2, 3, 4, 4), torch.ones(2, 3)))
    assert not terms.finite
    assert int(loss.skipped) == 1


@pytest.mark.usefixtures("quick")
def test_a_class_of_all_images_is_not_gated():
    loss, probe = make_loss(), make_view(99)
    train(loss, labels=torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]]))
    gate = loss.gate(probe.levels)
    assert (gate[:, 0] == 1).all()
    assert (gate[:, 1:] < 1).any()
    single = make_loss(1)
    train(single, labels=torch.ones(4, 1))
    assert single.gate.words.any()
    assert single.gate.prototypes.any()
    assert (single.gate(probe.levels) == 1).all()


@pytest.mark.usefixtures("quick")
def test_a_class_of_no_image_is_not_gated():
    loss, probe = make_loss(), make_view(99)
    train(loss, labels=torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]]))
    gate = loss.gate(probe.levels)
    assert (gate[:, 2] == 1).all()
    assert (gate[:, :2] < 1).any()


@pytest.mark.usefixtures("quick")
def test_images_without_a_class_are_background():
    loss, probe = make_loss(), make_view(99)
    train(loss, 4, labels=torch.zeros(4, 3))
    assert loss.gate.pixels.fill.tolist() == [0, 0, 0]
    assert loss.gate.background.fill == 4 * 4 * class_gate.IMAGE_PIXELS
    assert loss.gate.foreign.any(0).all()
    assert (loss.gate(probe.levels) == 1).all()  # for want of an image that has a class
    train(loss, 4, 4)
    assert (loss.gate(probe.levels) < 1).any()


@pytest.mark.usefixtures("quick")
def test_state_dict_restores_the_gate():
    whole, probe = make_loss(), make_view(99)
    train(whole, 5)
    saved = io.BytesIO()
    torch.save(whole.state_dict(), saved)
    torch.manual_seed(99)
    resumed = FBRLoss(5, 3, CONFIG, level_channels=9)
    saved.seek(0)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for start in (5, 8):
        gate = whole.gate(probe.levels)
        assert (gate < 1).any()
        assert torch.equal(resumed.gate(probe.levels), gate)
        for loss in (whole, resumed):
            train(loss, 3, start)
    for name, value in whole.gate.state_dict().items():
        assert torch.equal(resumed.gate.state_dict()[name], value), name


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_follows_the_precision(dtype):
    loss, exact, probe = make_loss(), make_loss(), make_view(99)
    train(exact)
    given = tuple(level.detach().to(dtype) for level in probe.levels)
    expected = exact.gate(given)
    assert (expected < 0.5).any()
    converted = deepcopy(exact).to(dtype)
    assert converted.gate.words.dtype == dtype
    gate = converted.gate(given)
    assert gate.dtype == torch.float32
    torch.testing.assert_close(gate, expected, rtol=0, atol=0.3 if dtype == torch.bfloat16 else 1e-5)
    loss = loss.to(dtype)
    for step in range(4):
        view = make_view(step)
        levels = tuple(level.detach().to(dtype) for level in view.levels)
        view = replace(view, features=levels[1], scores=view.scores.to(dtype), levels=levels)
        loss(view)
    assert (loss.gate(given) < 1).any()


@pytest.mark.usefixtures("quick")
def test_autocast_does_not_change_it():
    loss, probe = make_loss(), make_view(99)
    train(loss)
    expected = loss.gate(probe.levels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss.gate(probe.levels), expected)


@pytest.mark.usefixtures("quick")
def test_a_class_that_stays_away_keeps_its_reach():
    loss, probe = make_loss(), make_view(99)
    train(loss)
    gate = loss.gate(probe.levels)
    loss.gate.reached *= 1e-9
    torch.testing.assert_close(loss.gate(probe.levels), gate)


def test_levels_of_other_widths():
    view = make_view()
    with pytest.raises(ValueError, match=r"level_channels=5.*4, 5 channels.*sum, 9"):
        FBRLoss(5, 3, CONFIG)(view)
