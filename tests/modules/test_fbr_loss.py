"""FBRLoss: against the naive loops, its gradients, its state, and what users get wrong."""

import io
import warnings
from dataclasses import KW_ONLY, dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from helpers import naive

from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, GateConfig, ViewShape
from fbr_plugin import functional as fbr
from fbr_plugin.distributed import BatchShare
from fbr_plugin.modules import StepRandom, fbr_loss

CONFIG = FBRConfig(dim=6, num_clusters=3, bank_size=200, min_bank=4, num_negatives=9)


def make_view(seed: int = 0, logits: bool = True, size: int = 6) -> DenseView:
    """A view of 4 images, 3 classes and 5 channels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])
    scores = torch.randn(4, 3 + logits, size, size, generator=generator)
    features = torch.randn(4, 5, size, size, generator=generator).requires_grad_()
    return DenseView(features, scores, labels)


def record(monkeypatch, name: str) -> list[torch.Tensor]:
    """Let a sampling function run, and keep what it returns."""
    drawn, original = [], getattr(fbr, name)

    def wrapper(*args, **kwargs):
        drawn.append(original(*args, **kwargs))
        return drawn[-1]

    monkeypatch.setattr(fbr, name, wrapper)
    return drawn


OTHER = replace(
    CONFIG,
    temperature=0.3,
    topk_divisor=12,
    background_score=0.2,
    score_floor=0.3,
    confidence_quantile=0.6,
    entropy_quantile=0.1,
    seg_threshold=0.4,
    weight_fg=0.2,
    weight_bg=0.3,
    weight_seg=0.5,
    weight_sim=0.7,
)


@pytest.mark.parametrize(("logits", "config"), [(True, CONFIG), (False, OTHER)], ids=["default", "other"])
def test_every_term_equals_the_naive_one(logits, config, monkeypatch):
    torch.manual_seed(0)  # the order of tests must not decide which rounding is met
    loss = FBRLoss(ViewShape(5, 3), config)
    loss(make_view(9))  # something in the bank
    loss.classifier.dropout = 0.0
    view = make_view(1, logits)
    pixels, rows = record(monkeypatch, "sample_pixels"), record(monkeypatch, "sample_bank")
    terms = loss(view)

    foreground = F.conv2d(view.features, loss.heads.foreground).clamp_min(0)
    before_relu = F.conv2d(view.features, loss.heads.background)
    background = before_relu.clamp_min(0)
    normalised, entropy = naive.maps(view.scores, view.labels, config.background_score)
    pseudo = normalised.argmax(1)
    assert torch.equal(terms.pseudo_labels, pseudo)
    quantiles = config.confidence_quantile, config.entropy_quantile
    hard = naive.hard(normalised, entropy, pseudo, *quantiles, config.score_floor)
    assert terms.num_queries == hard.sum() > 10
    protos = naive.prototypes(foreground, normalised, pseudo, topk=max(1, 36 // config.topk_divisor))
    other = foreground.detach().permute(0, 2, 3, 1).flatten(0, 2)
    nrois = loss.banks[0].nrois
    fg, bg = (
        naive.contrast(foreground, hard, pseudo, protos, {c: keys[c - 1] for c in protos}, config.temperature)
        for keys in (other[pixels[0]], nrois[rows[0]])
    )

    target = torch.zeros(4, 6, 6)
    cams = view.scores[:, -3:].clamp_min(0)
    sim = seg = 0.0
    mean, variance = before_relu.mean((0, 2, 3)), before_relu.var((0, 2, 3), unbiased=False)
    for i in range(4):
        for u in range(6):
            for v in range(6):
                claimed = sum(
                    cams[i, c, u, v] / cams[i, c].max()
                    for c in range(3)
                    if view.labels[i, c] and cams[i, c].max() > 0
                )
                target[i, u, v] = float(claimed < config.seg_threshold)
                hidden = ((before_relu[i, :, u, v] - mean) / (variance + 1e-5).sqrt()).clamp_min(0)
                probability = torch.sigmoid((hidden * loss.classifier.weight[0, :, 0, 0]).sum())
                chosen = probability if target[i, u, v] else 1 - probability
                seg = seg - chosen.log() / target.numel()
                z_fg, z_bg = foreground[i, :, u, v], background[i, :, u, v]
                sim = sim + naive.cosine(z_fg, z_bg) / target.numel()
    total = config.weight_fg * fg + config.weight_bg * bg + config.weight_seg * seg + config.weight_sim * sim
    inputs = [view.features, loss.heads.foreground, loss.heads.background]
    references = {"fg": fg, "bg": bg, "seg": seg, "sim": sim, "total": total}
    for name, expected in references.items():
        actual = getattr(terms, name)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0)
        gradients = torch.autograd.grad(actual, inputs, retain_graph=True, allow_unused=True)
        naive_gradients = torch.autograd.grad(expected, inputs, retain_graph=True, allow_unused=True)
        for gradient, reference in zip(gradients, naive_gradients, strict=True):
            if reference is None:
                reference = torch.zeros_like(gradient)
            torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=2e-7)


@dataclass(frozen=True)
class Shuffled(BatchShare):
    """The images in another order, which those who draw from them do not see."""

    _: KW_ONLY
    order: torch.Tensor

    def own(self, whole):
        return whole[self.order]

    def gather(self, tensor):
        return tensor[self.order.argsort()] if len(tensor) == len(self.order) else tensor

    def gather_rows(self, images, *tensors):
        return tuple(self.gather(rows.unflatten(0, (images, -1))).flatten(0, 1) for rows in tensors)

    def take(self, rows, index):
        return super().take(self.gather(rows), index)


@pytest.mark.parametrize("logits", [True, False])
def test_the_order_of_images_does_not_matter_but_for_the_draws(logits, monkeypatch):
    view, order = make_view(1, logits), torch.tensor([2, 0, 3, 1])
    view.scores, view.features = view.scores.round(), view.features.detach().requires_grad_()  # many ties
    view.features.data[3] = view.features.data[1]
    memory = GateConfig(num_prototypes=2, num_clusters=4, recluster_every=1)
    results = []
    for chosen in (torch.arange(4), order):
        torch.manual_seed(0)
        loss, gate = FBRLoss(ViewShape(5, 3), CONFIG), ClassAwareGate(ViewShape(5, 3), memory)
        loss.classifier.share = Shuffled(order=chosen)
        monkeypatch.setattr(StepRandom, "share", loss.classifier.share)
        given = replace(view, features=view.features[chosen], scores=view.scores[chosen])
        given.labels = view.labels[chosen]
        for _ in range(2):
            terms, learned = loss(given), gate.update(given)
        gradients = torch.autograd.grad(terms.total, [view.features, loss.heads.foreground])
        own = [learned.mean_gate, learned.gate[chosen.argsort()], gate.prototypes, gate.clusters]
        results.append([*terms[:9], terms.graph, terms.pseudo_labels[chosen.argsort()], *gradients, *own])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    assert min(value.abs().max().item() for value in results[0]) > 0


@pytest.mark.parametrize("sampling", ["graph", "uniform"])
def test_classes_of_negatives_are_drawn_as_configured(sampling, monkeypatch):
    config, view = replace(CONFIG, sampling=sampling, num_negatives=20_000), make_view(1)
    loss, pixels = FBRLoss(ViewShape(5, 3), config), record(monkeypatch, "sample_pixels")
    terms = loss(view)
    foreground = F.conv2d(view.features, loss.heads.foreground).clamp_min(0)
    normalised, _ = naive.maps(view.scores, view.labels, CONFIG.background_score)
    protos = naive.prototypes(foreground, normalised, terms.pseudo_labels, topk=1)
    assert [*protos] == [1, 2, 3]
    expected = naive.class_probabilities(protos, 3, CONFIG.temperature, sampling == "uniform")
    torch.testing.assert_close(terms.graph, expected)
    drawn = F.one_hot(terms.pseudo_labels.flatten()[pixels[0]] - 1, 3).double().mean(1)
    torch.testing.assert_close(drawn, expected.double(), rtol=0, atol=0.015)


@pytest.mark.parametrize(
    "changes", [{"bank_rows": "pixels"}, {"num_clusters": 1}], ids=["pixels", "prototype"]
)
def test_the_bank_takes_pixels_or_one_prototype_of_an_image(changes):
    view = make_view(1)
    view.scores[3, 0] = -200.0  # an image without background
    loss = FBRLoss(ViewShape(5, 3), replace(CONFIG, **changes))
    terms = loss(view)
    background = F.conv2d(view.features, loss.heads.background).clamp_min(0).detach()
    rows, images = naive.background_rows(background, terms.pseudo_labels, mean="num_clusters" in changes)
    assert {*images} == {0, 1, 2}
    assert terms.bank_fill == len(rows)
    bank = loss.banks[0]
    torch.testing.assert_close(bank.nrois[: len(rows)], torch.stack(rows))
    assert torch.equal(bank.labels[: len(rows)], view.labels[images] > 0)
    assert torch.equal(terms.assignments, (terms.pseudo_labels == 0).long() - 1)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_losses_on_a_grid_of_their_own(form):
    view, grid = make_view(1, logits=False), (3, 4)
    features = view.features.detach().to(memory_format=form)

    def resized(maps):
        return F.interpolate(maps, grid, mode="bilinear", align_corners=True)

    totals, gradients = [], []
    for small in (False, True):
        torch.manual_seed(0)
        loss, own = FBRLoss(ViewShape(5, 3), CONFIG), features.clone().requires_grad_()
        each = replace(view, features=own, seg_scores=view.scores, grid=grid)
        if small:
            each = replace(each, features=resized(own), scores=resized(view.scores), grid=None)
        totals.append(loss(each))
        gradients += torch.autograd.grad(totals[-1].total, own)
    assert totals[0].pseudo_labels.shape == (4, *grid)
    torch.testing.assert_close(totals[0].total, totals[1].total)
    torch.testing.assert_close(*gradients)
    assert gradients[0].is_contiguous(memory_format=form)
    assert not torch.equal(totals[0].total, FBRLoss(ViewShape(5, 3), CONFIG)(view).total)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_features_are_resized_in_their_precision(dtype, tolerance, autocast):
    features = torch.rand(2, 5, 7, 9).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        small = fbr_loss._resize_features(features, (4, 3))
    expected = F.interpolate(features.double(), (4, 3), mode="bilinear", align_corners=True)
    assert small.dtype == dtype
    torch.testing.assert_close(small.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("term", ["fg", "bg"])
def test_gradient_reaches_the_features_through_each_contrast(term):
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    view = make_view()
    (gradient,) = torch.autograd.grad(getattr(loss(view), term), view.features)
    moved = gradient.abs().sum(1) > 0
    assert moved.any(), "the queries are detached"


def test_cosine_is_over_the_feature_axis():
    # Scaling a query changes no cosine over features, but would change one over the keys' axis.
    tiles = fbr.group_by_class(torch.zeros(5, dtype=torch.int64), 1)
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(*shape, generator=generator) for shape in ((5, 8), (1, 4, 8)))
    proto = torch.randn(1, 8, generator=generator)
    valid = torch.ones(1, dtype=torch.bool)
    plain = fbr.info_nce(queries, tiles, proto, keys, valid).loss
    longer_keys = fbr.info_nce(
        queries * torch.rand(5, 1, generator=generator).add(0.5), tiles, 3 * proto, keys * 7, valid
    ).loss
    torch.testing.assert_close(plain, longer_keys)
    permuted = fbr.info_nce(queries, tiles, proto, keys[:, torch.randperm(4)], valid).loss
    torch.testing.assert_close(plain, permuted)


def test_background_labels_travel_with_their_nrois():
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    view = make_view()
    terms = loss(view)
    bank = loss.banks[0]
    counts = [len(set(terms.assignments[i][terms.assignments[i] >= 0].tolist())) for i in range(4)]
    assert int(bank.fill) == sum(counts)
    expected = torch.cat([view.labels[i : i + 1].expand(n, -1) for i, n in enumerate(counts)])
    assert torch.equal(bank.labels[: sum(counts)].float(), expected)
    assert torch.equal(terms.assignments >= 0, terms.pseudo_labels == 0)


def test_warm_up_fills_the_bank_without_contrast():
    loss = FBRLoss(ViewShape(5, 3), FBRConfig(dim=6, min_bank=4, warmup_steps=2))
    fills = []
    for step in range(3):
        terms = loss(make_view(step))
        fills.append(int(terms.bank_fill))
        assert (terms.fg > 0).item() == (terms.bg > 0).item() == (step == 2)
        similarities = terms.positive_similarity.item(), terms.negative_similarity.item()
        assert (similarities == (0, 0)) == (step < 2)
        assert terms.seg > 0
    assert fills == sorted(set(fills))


def test_small_bank_gives_no_negatives():
    terms = FBRLoss(ViewShape(5, 3), FBRConfig(dim=6))(make_view())
    assert 0 < terms.bank_fill < 64
    assert terms.bg == 0
    assert terms.fg > 0


@pytest.mark.parametrize("more", [0, 1])
def test_a_bank_of_the_least_size_gives_negatives(more):
    fill = int(FBRLoss(ViewShape(5, 3), FBRConfig(dim=6))(make_view()).bank_fill)
    terms = FBRLoss(ViewShape(5, 3), FBRConfig(dim=6, min_bank=fill + more))(make_view())
    assert (terms.bg > 0) == (more == 0)


def test_weight_zero_terms_need_no_gradient():
    for field, frozen in {
        "weight_seg": {
            "classifier.norm.weight",
            "classifier.norm.bias",
            "classifier.weight",
            "classifier.bias",
        },
        "weight_sim": set(),
    }.items():
        loss = FBRLoss(ViewShape(5, 3), FBRConfig(**{field: 0.0}))
        assert {name for name, p in loss.named_parameters() if not p.requires_grad} == frozen
    weights = dict.fromkeys(("weight_fg", "weight_bg", "weight_seg", "weight_sim"), 0.0)
    loss = FBRLoss(ViewShape(5, 3), FBRConfig(**weights))
    terms = loss(make_view())
    assert terms.total.item() == 0
    assert not terms.total.requires_grad
    assert not any(p.requires_grad for p in loss.parameters())


@pytest.mark.parametrize(
    ("field", "trained"),
    [
        ("weight_fg", {"heads.foreground"}),
        ("weight_bg", {"heads.foreground"}),
        ("weight_seg", {"heads.background"}),
        ("weight_sim", {"heads.foreground", "heads.background"}),
    ],
)
def test_a_term_alone_trains_what_it_uses(field, trained):
    weights = dict.fromkeys(("weight_fg", "weight_bg", "weight_seg", "weight_sim"), 0.0)
    loss = FBRLoss(ViewShape(5, 3), FBRConfig(**{**weights, field: 1.0}))
    classifier = {f"classifier.{name}" for name, _ in loss.classifier.named_parameters()}
    expected = trained | (classifier if field == "weight_seg" else set())
    assert {name for name, p in loss.named_parameters() if p.requires_grad} == expected


def test_similarities_are_means_over_the_contrasts_that_contribute(monkeypatch):
    contrasts, view = record(monkeypatch, "info_nce"), make_view()
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    both, one = loss(view), loss(replace(view, labels=torch.tensor([[1.0, 0, 0]] * 4)))
    unfilled = FBRLoss(ViewShape(5, 3), replace(CONFIG, min_bank=200))(view)
    intra, inter, none, alone, first, unused = contrasts
    assert none.num_classes == unused.num_classes == 0
    for name in ("positive_similarity", "negative_similarity"):
        mean = (getattr(intra, name) + getattr(inter, name)) / 2
        torch.testing.assert_close(getattr(both, name), mean)
        torch.testing.assert_close(getattr(one, name), getattr(alone, name))
        torch.testing.assert_close(getattr(unfilled, name), getattr(first, name))


def test_scores_that_are_not_finite_count_as_0():
    totals = []
    for value in (float("nan"), 0.0):
        view = make_view()
        view.scores[1, :, 2, 3] = value
        torch.manual_seed(0)
        totals.append(FBRLoss(ViewShape(5, 3), CONFIG)(view).total)
    assert totals[0].isfinite()
    assert totals[0] == totals[1]


def test_one_image():
    view = make_view()
    alone = DenseView(*(each[3:].detach() for each in (view.features, view.scores, view.labels)))
    alone.features.requires_grad_()
    terms = FBRLoss(ViewShape(5, 3), CONFIG)(alone)
    assert terms.pseudo_labels.shape == (1, 6, 6)
    assert terms.total > 0


def test_trainable_parameters_always_get_a_gradient():
    for labels in (torch.zeros(4, 3), make_view().labels):
        loss = FBRLoss(ViewShape(5, 3), CONFIG)
        view = make_view()
        view.labels = labels
        loss(view).total.backward()
        assert all(p.grad is not None for p in loss.parameters())


def test_one_class_and_all_background():
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    view = make_view()
    view.labels = torch.tensor([[1.0, 0, 0]] * 4)
    terms = loss(view)
    assert terms.fg == 0
    assert terms.bg > 0
    view = make_view(logits=False)
    view.scores = torch.full_like(view.scores, -1.0)
    terms = loss(view)
    assert terms.num_queries == 0
    assert terms.fg == terms.bg == 0
    terms.total.backward()
    assert view.features.grad.isfinite().all()


def test_no_background_pixel():
    view = make_view(logits=False)
    view.scores = view.scores.abs() + torch.rand_like(view.scores)
    loss = FBRLoss(ViewShape(5, 3), FBRConfig(dim=6, background_score=0.0, min_bank=1))
    view.scores[:, :, 0, 0] = 5.0
    view.scores[:, :, 0, 1] = 0.0
    terms = loss(view)
    assert terms.total.isfinite()
    assert int(terms.bank_fill) <= 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_skipped(value):
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    loss(make_view())
    fill = int(loss.banks[0].fill)
    view = make_view(1)
    with torch.no_grad():
        view.features[0, 2, 1, 1] = value
    with pytest.warns(UserWarning, match="NaN or infinite features"):
        terms = loss(view)
    assert not terms.finite
    assert terms.total == terms.num_queries == 0
    terms.total.backward()
    assert (view.features.grad == 0).all()
    assert all((p.grad == 0).all() for p in loss.parameters())
    assert int(loss.banks[0].fill) == fill
    assert int(loss.skipped.count) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(view)
    assert int(loss.skipped.count) == 2
    assert loss(make_view(2)).total > 0


def test_global_random_stream_is_untouched():
    state = torch.get_rng_state()
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    loss(make_view())
    assert torch.equal(torch.get_rng_state(), state)


def test_resume_continues_exactly():
    torch.manual_seed(11)
    whole = FBRLoss(ViewShape(5, 3), CONFIG)
    for step in range(3):
        whole(make_view(step))
    saved = io.BytesIO()
    torch.save(whole.state_dict(), saved)
    torch.manual_seed(99)
    resumed = FBRLoss(ViewShape(5, 3), CONFIG)
    saved.seek(0)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for step in range(3, 6):
        expected, actual = whole(make_view(step)), resumed(make_view(step))
        for name, a, b in zip(expected._fields, expected, actual, strict=True):
            assert torch.equal(a, b), name


def test_evaluation_changes_nothing():
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    loss(make_view())
    loss.eval()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    first, second = loss(make_view(1)), loss(make_view(1))
    assert torch.equal(first.total, second.total)
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_banks_of_views():
    apart = FBRLoss(ViewShape(5, 3, 2), FBRConfig(dim=6, shared_bank=False))
    apart(make_view(), 0)
    assert [int(bank.fill) > 0 for bank in apart.banks] == [True, False]
    together = FBRLoss(ViewShape(5, 3, 2), FBRConfig(dim=6))
    first = together(make_view(), 0).bank_fill
    assert together(make_view(), 1).bank_fill > first
    assert together.step == 1


def test_views_draw_differently():
    loss = FBRLoss(ViewShape(5, 3, 2), CONFIG)
    first, second = loss(make_view(), 0), loss(make_view(), 1)
    assert first.seg != second.seg  # dropout


@pytest.mark.parametrize("mode", ["autocast", "bf16-true"])
def test_half_precision_computes_the_contrast_in_float32(mode):
    torch.manual_seed(0)
    reference = FBRLoss(ViewShape(5, 3), CONFIG)
    torch.manual_seed(0)
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    view = make_view()
    expected = reference(view)
    if mode == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = loss(view)
    else:
        loss = loss.bfloat16()
        terms = loss(DenseView(view.features.bfloat16(), view.scores.bfloat16(), view.labels.bfloat16()))
        assert loss.banks[0].nrois.dtype == torch.bfloat16
    assert {value.dtype for value in (*terms[:4], terms.total)} == {torch.float32}
    torch.testing.assert_close(terms.total, expected.total, rtol=0.05, atol=0)
    terms.total.backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_seg_scores_on_their_own_grid():
    seg = []
    for scores in (None, torch.randn(4, 3, 14, 14), None):
        torch.manual_seed(0)
        loss = FBRLoss(ViewShape(5, 3), CONFIG)
        seg.append(loss(replace(make_view(), seg_scores=scores)).seg)
    assert seg[0] == seg[2] != seg[1] > 0


def test_bad_views():
    loss = FBRLoss(ViewShape(5, 3), CONFIG)
    view = make_view()
    cases = [
        (DenseView(torch.zeros(4, 7, 6, 6), view.scores, view.labels), r"features must be \[B, 5, h, w\]"),
        (DenseView(view.features, torch.zeros(4, 9, 6, 6), view.labels), r"logits \[4, 4, h, w\]"),
        (DenseView(view.features, torch.zeros(4, 4, 3, 3), view.labels), "share their grid"),
        (DenseView(view.features, view.scores, torch.zeros(4, 2)), r"labels must be \[4, 3\]"),
    ]
    for bad, message in cases:
        with pytest.raises(ValueError, match=message):
            loss(bad)
    with pytest.raises(ValueError, match=r"view 1 is out of range.*num_views=1"):
        loss(view, 1)
    with pytest.raises(ValueError, match=r"at least 1, got ViewShape\(channels=0"):
        ViewShape(0, 3)


def test_released_heads_project_before_they_resize():
    """Segmentation and separation on the features' own grid, contrasts on resized projections."""
    config = replace(CONFIG, released_heads=True)
    torch.manual_seed(0)
    loss = FBRLoss(ViewShape(5, 3), config)
    view = replace(make_view(1, logits=False), grid=(4, 5))
    loss.classifier.dropout = 0.0
    terms = loss(view)
    before_relu = F.conv2d(view.features, loss.heads.background)
    foreground = F.conv2d(view.features, loss.heads.foreground).relu()
    normalised = (before_relu / (1 + 1e-5) ** 0.5 + 1e-4).relu()
    cosine = F.cosine_similarity(foreground, normalised).mean()
    torch.testing.assert_close(terms.sim, cosine)
    logits = F.conv2d(normalised, loss.classifier.weight)[:, 0]
    target = fbr.background_target(view.scores, view.labels, config.seg_threshold)
    assert target.shape == (4, 6, 6)
    torch.testing.assert_close(terms.seg, F.binary_cross_entropy_with_logits(logits, target))
    coarse = F.interpolate(view.scores, (4, 5), mode="bilinear", align_corners=True)
    maps = fbr.normalise_scores(coarse, view.labels, config.background_score)
    assert torch.equal(terms.pseudo_labels, maps.normalised.argmax(1))
    assert loss(replace(view, grid=None)).sim == terms.sim
    other = FBRLoss(ViewShape(5, 3), CONFIG)
    other.load_state_dict(loss.state_dict())
    assert other(view).sim != terms.sim


def test_released_heads_train_no_normalisation():
    loss = FBRLoss(ViewShape(5, 3), replace(CONFIG, released_heads=True)).train()
    before = {name: value.clone() for name, value in loss.classifier.state_dict().items()}
    loss(make_view()).total.backward()
    assert loss.classifier.training
    assert not loss.classifier.norm.training
    trained = {name for name, value in loss.classifier.named_parameters() if value.requires_grad}
    assert trained == {"weight"}
    assert all(torch.equal(value, before[name]) for name, value in loss.classifier.state_dict().items())
    unused = FBRLoss(ViewShape(5, 3), replace(CONFIG, released_heads=True, weight_seg=0.0))
    assert not any(value.requires_grad for value in unused.classifier.parameters())


def test_labels_that_are_no_labels_are_refused():
    view = make_view()
    with pytest.raises(ValueError, match=r"^labels must be 0 or 1 for each class, got 3\.0$"):
        FBRLoss(ViewShape(5, 3), CONFIG)(
            replace(view, labels=view.labels.clone().index_fill_(0, torch.tensor(1), 3))
        )
    with pytest.raises(
        ValueError, match=r"must be whole numbers of at least 1, got ViewShape\(channels=5\.0"
    ):
        ViewShape(5.0, 3)


def test_features_without_gradient_are_warned_of():
    loss, view = FBRLoss(ViewShape(5, 3), CONFIG), make_view()
    detached = replace(view, features=view.features.detach())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(view)
        with torch.no_grad():
            loss(detached)
        loss.eval()(detached)
    with pytest.warns(UserWarning, match="the features of a view carry no gradient"):
        loss.train()(detached)
