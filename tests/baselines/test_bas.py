"""BAS: its losses against loops, the suppressed pass, the drawn classes, its seeds."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.random_data import NUM_CLASSES, RandomData
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from test_baselines import FBR, trainer
from torch import Tensor, nn

from fbr_plugin import recommended
from fbr_plugin.baselines.bas.losses import activation_ratio, bas_terms, present_against_absent
from fbr_plugin.baselines.bas.module import BAS, BASFBR, LabelSampler
from fbr_plugin.baselines.bas.network import call_frozen
from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.data import Loading, SyntheticDataModule

OFF = {"weight_fg": 0.0, "weight_bg": 0.0, "weight_seg": 0.0, "weight_sim": 0.0}


def build(kind: type[BAS] = BAS, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return kind(**{"num_classes": NUM_CLASSES, "encoder": "small", "scales": (1.0,), **options})


def naive_terms(
    class_maps: Tensor, mask: Tensor, suppressed_maps: Tensor, label: Tensor, target: Tensor, guide: bool
) -> list[Tensor]:
    """The four losses, image by image and pixel by pixel."""
    zero = torch.zeros((), dtype=torch.float64)
    cls, frg, bas, area, labelled = zero, zero, zero, zero, 0
    images, classes, height, width = class_maps.shape
    factor = mask.shape[-1] // width

    def pooled(maps: Tensor, image: int, index: int) -> Tensor:
        return sum((maps[image, index, y, x] for y in range(height) for x in range(width)), zero) / (
            height * width
        )

    for image in range(images):
        scores = [pooled(class_maps, image, index) for index in range(classes)]
        absent = sum((scores[j].exp() for j in range(classes) if not label[image, j]), zero)
        for index in range(classes):
            if label[image, index]:
                cls = cls - (scores[index].exp() / (scores[index].exp() + absent)).log() / images
        if not label[image].any():
            continue
        labelled += 1
        cells = mask[image, 0].unfold(0, factor, factor).unfold(1, factor, factor)
        guided = []
        for index in range(classes):
            maps = class_maps if guide else class_maps.detach()
            values = [
                maps[image, index, y, x] * cells[y, x].mean() for y in range(height) for x in range(width)
            ]
            guided.append((sum(values, zero) / (height * width)).exp())
        kind = int(target[image])
        frg = frg - (guided[kind] / sum(guided)).log()
        whole = max(scores[kind].item(), 0.0)
        background = pooled(suppressed_maps, image, kind)
        if background > whole:
            bas = bas + 1
        elif background > 0:
            bas = bas + background / whole
        area = area + mask[image, 0].sum() / mask[image, 0].numel()
    return [cls, frg / labelled, bas / labelled, area / labelled]


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("guide", [False, True])
def test_losses_and_gradients_against_loops(factor: int, guide: bool, generator: torch.Generator) -> None:
    double = {"generator": generator, "dtype": torch.float64}
    class_maps = (torch.randn(6, 4, 3, 5, **double) + 0.3).requires_grad_()
    suppressed_maps = (class_maps.detach() * torch.rand(6, 4, 1, 1, **double) * 1.6 - 0.1).requires_grad_()
    mask = torch.rand(6, 1, 3 * factor, 5 * factor, **double).requires_grad_()
    label = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]])
    target = torch.tensor([0, 1, 3, 2, 0, 2])
    inputs = (class_maps, mask, suppressed_maps)
    terms = bas_terms(*inputs, label.double(), target, guide)
    expected = naive_terms(*inputs, label, target, guide)
    for value, wanted in zip(terms, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-8, atol=0)
        gradients = (
            torch.autograd.grad(each, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
            for each in (value, wanted)
        )
        for given, same in zip(*gradients, strict=True):
            torch.testing.assert_close(given, same, rtol=1e-8, atol=1e-15)


def test_one_class_an_image_is_the_cross_entropy(generator: torch.Generator) -> None:
    logits, target = torch.randn(5, 4, generator=generator), torch.tensor([0, 3, 1, 1, 2])
    loss = present_against_absent(logits, torch.eye(4)[target])
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, target))


def test_ratio_is_the_constant_1_where_suppression_raises_the_score() -> None:
    score = torch.tensor([2.0, 2.0, 0.0, -1.0, -1.0, 2.0], requires_grad=True)
    suppressed = torch.tensor([1.0, 3.0, 1.0, 0.5, -2.0, -1.0], requires_grad=True)
    ratio = activation_ratio(score, suppressed)
    assert ratio.tolist() == [0.5, 1, 1, 1, 0, 0]
    ratio.sum().backward()
    assert score.grad is None
    assert suppressed.grad is not None
    assert suppressed.grad.tolist() == [0.5, 0, 0, 0, 0, 0]


def test_images_without_a_class() -> None:
    model, batch = build(), RandomData().batch()
    nothing = {**batch, "label": torch.zeros(2, NUM_CLASSES)}
    loss = model.training_step(nothing, 0)["loss"]
    loss.backward()
    assert loss == 0
    assert all(weight.grad is not None and weight.grad.eq(0).all() for weight in model.parameters())


@pytest.mark.parametrize("encoder", ["small", "resnet18"])
@pytest.mark.parametrize("wsol", [False, True])
def test_suppressed_pass_trains_the_generator_alone(encoder: str, wsol: bool) -> None:
    model, batch = build(encoder=encoder, wsol=wsol, seed=1), RandomData().batch()
    model.hparams.update({"weight_frg": 0.0, "weight_area": 0.0})
    buffers: list[dict[str, Tensor]] = []
    model.encoder.register_forward_hook(
        lambda *_: buffers.append({name: buffer.clone() for name, buffer in model.named_buffers()})
    )
    # A class that scores high in both images, so that the ratio is below 1 in each.
    classifier = model.head["classifier"][-1] if wsol else model.head["classifier"]
    classifier.weight.data.abs_()
    batch["label"] = torch.tensor([[1.0, 1.0, 1.0]] * 2)  # no absent class: the classification loss is 0
    outputs = model.training_step(batch, 0)
    outputs["loss"].backward()
    (after_encoder,) = buffers
    for name, buffer in model.named_buffers():
        assert name == "sample_label.step" or torch.equal(buffer, after_encoder[name]), name
    assert 0 < outputs["loss"] < 1
    others = [*model.encoder.last_stage().parameters(), *model.head["classifier"].parameters()]
    assert all(weight.grad is None or weight.grad.eq(0).all() for weight in others)
    assert model.head["generator"].weight.grad.abs().sum() > 0
    # What remains reaches the stages before through M alone.
    assert next(model.encoder.parameters()).grad.abs().sum() > 0


def test_frozen_call_normalises_by_the_statistics_of_its_inputs() -> None:
    module, inputs = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), torch.randn(2, 3, 5, 5) + 2
    before = {name: value.clone() for name, value in module.state_dict().items()}
    outputs = call_frozen(module, inputs)
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    assert not outputs.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_sampled_class_is_uniform_over_the_present_ones() -> None:
    torch.manual_seed(0)
    sampler, state = LabelSampler(), torch.get_rng_state()
    label = torch.tensor([[1.0, 0.0, 1.0, 1.0]]).expand(1000, 4)
    drawn = torch.cat([sampler(label) for _ in range(9)])
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.0, 1.0, 1.0]) / 3, atol=0.02, rtol=0)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(drawn[:1000], drawn[1000:2000])

    again = LabelSampler()
    again.load_state_dict(sampler.state_dict())
    assert torch.equal(again(label), sampler(label))


@pytest.mark.parametrize(("encoder", "stride"), [("small", 4), ("resnet18", 32), ("test_efficientnet", 16)])
@pytest.mark.parametrize("view", ["last", "third"])
def test_views_share_a_grid_and_have_the_level_asked_for(encoder: str, stride: int, view: str) -> None:
    model, batch = build(BASFBR, fbr=FBR, encoder=encoder, output_stride=stride, view=view), RandomData()
    seen: list[Any] = []
    model.fbr.register_forward_hook(lambda _module, args, _terms: seen.append(args[0]))
    levels: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda _module, _args, found: levels.extend(found))
    model.training_step(batch.batch(), 0)["loss"].backward()
    (given,) = seen
    level = levels[-1 if view == "last" else -2]
    assert given.features is level
    assert given.scores.shape == (2, NUM_CLASSES, *level.shape[-2:])
    assert given.scores.min() < 0, "before ReLU"


@pytest.mark.parametrize("kind", ["generator", "cam", "both"])
def test_seeds_are_the_maps_asked_for(kind: str) -> None:
    model, batch = build(seeds=kind, encoder="resnet18", output_stride=32).eval(), RandomData().batch()
    with torch.no_grad():
        class_maps, maps, _ = model(batch["image"])
        scores = model.seed_scores(batch["image"], batch["label"])
        seed = model.to_seeds(scores, batch)
    assert scores.shape == (2, NUM_CLASSES * (2 if kind == "both" else 1), 2, 3)
    parts = []
    if kind != "cam":
        parts.append(maps[..., :2, :3])
    if kind != "generator":
        grown = nn.functional.interpolate(class_maps.relu(), maps.shape[-2:], mode="bilinear")
        parts.append(grown[..., :2, :3])
    expected = sum(part / part.amax((2, 3), keepdim=True) for part in parts)
    expected = expected / expected.amax((2, 3), keepdim=True)
    torch.testing.assert_close(seed[:, :2], expected[:, :2])
    assert seed[:, 2].eq(0).all()


class Losses(Callback):
    """Keeps the loss of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(outputs["loss"].item())


@pytest.mark.slow
def test_weights_of_zero_are_the_bare_baseline_bit_for_bit(tmp_path: Path) -> None:
    baseline, with_fbr = build(BAS), build(BASFBR, fbr={**FBR, **OFF})
    losses = []
    for model in (baseline, with_fbr):
        torch.manual_seed(7)
        recorder = Losses()
        trainer(tmp_path, max_epochs=3, callbacks=[recorder]).fit(model, RandomData())
        losses.append(recorder.values)
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]
    for name, value in baseline.state_dict().items():
        assert torch.equal(value, with_fbr.state_dict()[name]), name


@pytest.mark.parametrize("kind", [BAS, BASFBR])
def test_resume_is_exact(kind: type[BAS], tmp_path: Path) -> None:
    """Stopped in the middle of epoch 1 of 3."""
    options = {"num_classes": 5, **({"fbr": FBR} if kind is BASFBR else {})}
    whole, resumed = build(kind, **options), build(kind, seed=99, **options)
    checkpoints = ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1, filename="{step}")
    run = {"max_epochs": 3, "enable_checkpointing": True, "limit_val_batches": 0}
    scenes = {"num_images": 12, "size": 32, "loading": Loading(4, eval_batch_size=50)}
    trainer(tmp_path, callbacks=[checkpoints], **run).fit(whole, SyntheticDataModule(**scenes))
    trainer(tmp_path, **run).fit(resumed, SyntheticDataModule(**scenes), ckpt_path=tmp_path / "step=4.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_collapse_is_warned_of_once(tmp_path: Path) -> None:
    model = build()
    nn.init.constant_(model.head["generator"].weight, -10.0)
    model._area = 0.0101
    with pytest.warns(
        UserWarning, match=r"generator has collapsed: its maps have a mean of .* weight_area"
    ) as seen:
        trainer(tmp_path, max_epochs=3, limit_val_batches=0).fit(model, RandomData())
    assert sum("collapsed" in str(warning.message) for warning in seen) == 1


def test_weights_of_the_losses_and_wrong_names() -> None:
    model, batch = build(), RandomData().batch()
    losses = []
    for name in ("weight_frg", "weight_bas", "weight_area"):
        model.hparams.update({"weight_frg": 0.0, "weight_bas": 0.0, "weight_area": 0.0, name: 2.0})
        model.sample_label.step.zero_()
        losses.append(model.training_step(batch, 0)["loss"].item())
    assert len(set(losses)) == 3
    assert all(math.isfinite(loss) for loss in losses)
    with pytest.raises(ValueError, match="seeds must be one of 'generator', 'cam', 'both', got 'maps'"):
        build(seeds="maps")
    with pytest.raises(ValueError, match="view must be one of 'last', 'third', got 'first'"):
        build(view="first")


@pytest.mark.parametrize(
    "name", ["small", "resnet18", "test_convnext", "test_efficientnet", "mobilenetv3_small_050", "test_nfnet"]
)
def test_last_stage_turns_the_third_level_into_the_last(name: str) -> None:
    encoder = build_encoder(name).eval()
    with torch.no_grad():
        levels = encoder(torch.randn(1, 3, 48, 64))
        torch.testing.assert_close(encoder.last_stage()(levels[-2]), levels[-1], rtol=0, atol=0)
    assert encoder.strides[-1] == encoder.stride
    sizes = [level.shape[-1] * stride for level, stride in zip(levels, encoder.strides, strict=True)]
    assert sizes == [64] * len(levels)


def test_encoder_whose_last_stage_cannot_be_split_off() -> None:
    with pytest.raises(
        ValueError, match=r"'test_vit' cannot be split .* FeatureGetterNet; take one .*resnet50"
    ):
        build(encoder="test_vit")


def test_the_gate_of_one_class_and_both_maps() -> None:
    bas = BAS(1, encoder="small", seeds="both").eval()
    image = torch.randn(1, 3, 32, 32)
    baseline = bas.seed_scores(image, torch.ones(1, 1))
    gated = BASFBR(1, encoder="small", seeds="both", **recommended()).eval()
    gated.load_state_dict(bas.state_dict(), strict=False)
    gated.gate.forward = lambda levels, grid: torch.full((1, 1, *grid), 0.5)
    expected = (baseline + baseline.amin((2, 3), keepdim=True)) / 2
    torch.testing.assert_close(gated.seed_scores(image, torch.ones(1, 1)), expected)
