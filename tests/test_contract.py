"""The contract of the baselines: what each of them must do, bare and with FBR."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.runs import Losses, fit
from pytorch_lightning.callbacks import ModelCheckpoint

from fbr_plugin import DenseView, FBRConfig, FBRMixin, GateConfig, recommended
from fbr_plugin.baselines import AMN, AMNFBR, BAS, BASFBR, CAM, CAMFBR, PPC, PPCFBR, SeedTask
from fbr_plugin.callbacks.exact_resume import ExactResume
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.functional import hypercolumns

Scenes = Callable[..., SyntheticDataModule]
VARIANTS = {CAM: CAMFBR, AMN: AMNFBR, PPC: PPCFBR, BAS: BASFBR}
KINDS = [*VARIANTS, *VARIANTS.values()]
FBR = {
    "dim": 8,
    "num_clusters": 2,
    "kmeans_iterations": 2,
    "bank_size": 100,
    "min_bank": 2,
    "num_negatives": 4,
}
ZERO = FBRConfig(weight_fg=0, weight_bg=0, weight_seg=0, weight_sim=0)
GATE = GateConfig(enabled=True, num_clusters=8, recluster_every=2)
GATED: dict[str, Any] = {"fbr": FBRConfig(enabled=False), "gate": GATE}


def build(kind: type[SeedTask], num_classes: int = 5, seed: int = 0, **options: Any) -> Any:
    """A small baseline that learns fast enough for its weights to move."""
    pl.seed_everything(seed, verbose=False)
    optimizer = {"lr": 1e-3, "head_lr": 1e-2}
    options = {"encoder": "small", "optimizer": optimizer, "scales": (1.0,), **options}
    if issubclass(kind, AMN):
        options = {"rates": (1, 2), **options}
    if issubclass(kind, FBRMixin):
        options = {"fbr": FBRConfig(**FBR), **options}
    return kind(num_classes, **options)


def random_batch(label: list[int], height: int = 32, width: int = 32) -> dict[str, Any]:
    """Two images of noise with the same label, and pseudo labels of its classes beside the background."""
    generator = torch.Generator().manual_seed(0)
    present = torch.tensor([0, *(c + 1 for c, value in enumerate(label) if value)])
    return {
        "id": ["a", "b"],
        "image": torch.randn(2, 3, height, width, generator=generator),
        "label": torch.tensor([label, label], dtype=torch.float32),
        "pseudo_label": present[
            torch.randint(len(present), (2, height // 8, width // 8), generator=generator)
        ]
        .repeat_interleave(8, 1)
        .repeat_interleave(8, 2),
    }


def views_of(model: Any, batch: dict[str, Any]) -> list[DenseView]:
    """The views that a baseline hands to FBR."""
    return model.dense_views(batch, super(FBRMixin, model).training_step(batch, 0))


def train_step(model: Any, batch: dict[str, Any]) -> None:
    """A step down the gradient, which must be finite, as must the loss."""
    loss = model.training_step(batch, 0)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    model.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (72, 104)], ids=str)
@pytest.mark.parametrize("encoder", ["small", "resnet18"])
@pytest.mark.parametrize("kind", VARIANTS.values())
def test_views(kind: type[SeedTask], encoder: str, size: tuple[int, int]) -> None:
    model, batch = build(kind, encoder=encoder), random_batch([1, 0, 1, 0, 0], *size)
    views = views_of(model, batch)
    assert len(views) == model.view_shape.num_views
    for view in views:
        assert view.features.shape[:2] == (2, model.view_shape.channels)
        assert view.scores.shape[:2] in ((2, 5), (2, 6))
        assert view.scores.shape[2:] == view.features.shape[2:]
        assert view.features.requires_grad
        assert torch.equal(view.labels, batch["label"])
        assert [level.shape[1] for level in view.levels] == list(model.encoder.channels)[: model.num_shallow]
    train_step(model, batch)
    with torch.no_grad():
        scores = model.eval().seed_scores(batch["image"], batch["label"])
    assert scores.shape[2:] == tuple(-(-side // model.stride) for side in size)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"fbr": ZERO}, GATED], ids=["zero", "gated"])
@pytest.mark.parametrize("kind", VARIANTS)
def test_weights_of_zero_are_the_baseline_bit_for_bit(
    kind: type[SeedTask], settings: dict[str, Any], scenes: Scenes, tmp_path: Path
) -> None:
    # Losses replace PPC's contrast within a view, also with weights of 0.
    options = {"intra_view": False} if kind is PPC and settings["fbr"].enabled else {}
    losses, states = [], []
    for model in (lambda: build(kind, **options), lambda: build(VARIANTS[kind], **settings)):
        recorder, started = Losses(), model()
        before = deepcopy(started.head.state_dict())
        fit(started, scenes(), tmp_path, callbacks=[recorder], max_steps=3)
        assert any(not torch.equal(value, before[name]) for name, value in started.head.state_dict().items())
        losses.append(recorder.values)
        states.append(started.state_dict())
    assert (started.fbr is None) != (started.gate is None)
    assert started.gate is None or states[1]["gate.clusters"].any()
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "gate"), [*((kind, False) for kind in KINDS), *((kind, True) for kind in VARIANTS.values())]
)
def test_resume_in_the_middle_of_an_epoch_is_exact(
    kind: type[SeedTask], gate: bool, scenes: Scenes, tmp_path: Path
) -> None:
    data = {"num_images": 12}  # 3 batches
    gated = {"gate": GATE} if gate else {}

    def train(seed: int, ckpt_path: Path | None = None) -> Any:
        saver = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}")
        carriers = [] if issubclass(kind, FBRMixin) else [ExactResume()]
        model, options = build(kind, seed=seed, **gated), {"callbacks": [saver, *carriers], "max_epochs": 2}
        fit(model, scenes(**data), tmp_path, ckpt_path, enable_checkpointing=True, **options)
        return model.state_dict()

    whole = train(0)
    resumed = train(99, tmp_path / "step=2.ckpt")
    assert not gate or (whole["gate.similarity"][1] > 0).any()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def teach(model: Any, image: torch.Tensor) -> None:
    """Give the gate prototypes and clusters that are pixels of an image; none is class-absent for class 0."""
    gate, generator = model.gate, torch.Generator().manual_seed(0)
    with torch.no_grad():
        levels = model.shallow(model.encoder(image))
    rows = hypercolumns(levels, levels[-1].shape[-2:]).movedim(1, -1).flatten(0, 2)
    for target in (gate.prototypes, gate.clusters):
        drawn = torch.randint(len(rows), target.shape[:-1], generator=generator)
        target.copy_(rows[drawn])
    gate.class_absent[:, 1:] = True
    gate.similarity[0], gate.similarity[1] = 0.9, 1.0


def bare_and_gated(
    kind: type[SeedTask], size: tuple[int, int] = (32, 32), **options: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """A bare baseline and its variant with a gate, of the same weights, and a batch; to predict."""
    batch = random_batch([1, 0, 1, 0, 0], *size)
    bare, gated = build(kind, **options), build(VARIANTS[kind], **GATED, **options)
    bare.load_state_dict({name: gated.state_dict()[name] for name in bare.state_dict()})
    return bare.eval(), gated.eval(), batch


PADDED = {"encoder": "resnet18", "output_stride": 32, "size": (72, 104)}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"size": (64, 48)}, PADDED], ids=["small", "oblong", "padded"])
@pytest.mark.parametrize(
    ("kind", "seeds"),
    [(CAM, None), (AMN, None), (PPC, None), (BAS, "generator"), (BAS, "cam"), (BAS, "both")],
)
@torch.no_grad()
def test_seeds_are_the_bare_ones_lowered_by_the_gate(
    kind: type[SeedTask], seeds: str | None, options: dict[str, Any]
) -> None:
    options = {**options, "seeds": seeds} if seeds else options
    bare, gated, batch = bare_and_gated(kind, **options)
    image, label = batch["image"], batch["label"]
    plain = bare.seed_scores(image, label)
    assert torch.equal(gated.seed_scores(image, label), plain)  # nothing is learned yet
    teach(gated, image)
    found = gated.seed_scores(image, label)
    levels = gated.encoder(image)
    grid = levels[-2 if kind is BAS else -1].shape[-2:]  # BAS's maps are those of the last level but one
    gate = gated.gate(gated.shallow(levels), grid)
    assert gate.shape == (2, 5, *grid)
    assert (gate[:, 0] == 1).all()
    assert (gate[:, 1:].amin((0, 2, 3)) < 0.5).all()
    if kind is BAS and PADDED.items() <= options.items():
        assert gate.shape[-2:] == plain.shape[-2:] == (5, 7)
    if kind is AMN:
        expected = torch.cat([plain[:, :1], plain[:, 1:] + gate.log()], 1)
        unknown = slice(0, 2)
    else:
        lowest = plain.amin((2, 3), keepdim=True)
        expected = lowest + (plain - lowest) * gate.repeat(1, plain.shape[1] // 5, 1, 1)
        unknown = slice(0, None, 5)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[:, unknown], plain[:, unknown])
    assert not torch.allclose(found, plain)


@pytest.mark.parametrize("options", [{}, PADDED], ids=["small", "padded"])
@pytest.mark.parametrize("kind", [CAM, BAS])
@torch.no_grad()
def test_what_localizes_is_gated_and_what_classifies_is_not(
    kind: type[SeedTask], options: dict[str, Any]
) -> None:
    bare, gated, batch = bare_and_gated(kind, **options, **({"seeds": "generator"} if kind is BAS else {}))
    image, label = batch["image"], batch["label"]
    plain, logits = bare.scored_maps(image)
    teach(gated, image)
    maps, same = gated.scored_maps(image)
    assert torch.equal(same, logits)
    assert not torch.allclose(maps, plain)
    assert torch.equal(maps, gated.seed_scores(image, label))


@pytest.mark.slow
@pytest.mark.parametrize("kind", VARIANTS)
def test_seeds_change_once_the_gate_has_learned(kind: type[SeedTask], scenes: Scenes, tmp_path: Path) -> None:
    batch, seeds = next(iter(scenes().train_dataloader())), []
    steps = 5
    for trained, every in ((kind, None), (VARIANTS[kind], steps + 1), (VARIANTS[kind], 2)):
        gate = {**GATED, "gate": replace(GATE, recluster_every=every)} if every else {}
        model = build(trained, **gate)
        fit(model, scenes(), tmp_path, max_steps=steps)
        with torch.no_grad():
            seeds.append(model.eval().predict_step(batch, 0).seeds)
    bare, before, after = seeds  # without a reclustering nothing changes
    assert all(map(torch.equal, before, bare))
    assert not all(map(torch.allclose, after, bare))


@pytest.mark.parametrize(
    "label", [[0, 0, 0], [0, 1, 0], [1]], ids=["background", "one_present", "one_in_all"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_few_classes(kind: type[SeedTask], label: list[int]) -> None:
    model, batch = build(kind, len(label)), random_batch(label)
    for _ in range(2):  # in the second step FBR has a bank
        train_step(model, batch)
    if issubclass(kind, FBRMixin):
        assert model.fbr.banks[0].fill > 0
        assert model.fbr.skipped.count == 0


@pytest.mark.parametrize("kind", KINDS)
def test_bf16(kind: type[SeedTask]) -> None:
    model, batch = build(kind), random_batch([1, 0, 1, 0, 0])
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            train_step(model, batch)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", VARIANTS.values())
def test_compiled_loss(kind: type[SeedTask]) -> None:
    torch.compiler.reset()
    model = build(kind)
    views = views_of(model, random_batch([1, 0, 1, 0, 0]))
    graphs, results = [], []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    for loss in (model.fbr, torch.compile(deepcopy(model.fbr), backend=backend)):
        features = [view.features.detach().requires_grad_() for view in views]
        given = [replace(view, features=each) for view, each in zip(views, features, strict=True)]
        terms = [loss(view, index) for index, view in enumerate(given)]
        sum(term.total for term in terms).backward()
        results.append(([tuple(term) for term in terms], [each.grad for each in features]))
    assert graphs
    torch.testing.assert_close(results[1], results[0])
    assert all(gradient.abs().sum() > 0 for gradient in results[0][1])


@pytest.mark.parametrize(
    ("encoder", "options", "channels"),
    [
        ("small", {}, [24, 48, 64, 96]),
        ("resnet10t", {"output_stride": 8}, [64, 64, 128]),
        ("resnet10t", {"output_stride": 16}, [64, 64, 128]),
        ("convnext_atto", {"output_stride": 16}, [40, 80]),
    ],
)
def test_a_pixel_is_described_by_levels_up_to_stride_8(
    encoder: str, options: dict[str, Any], channels: list[int]
) -> None:
    model = CAMFBR(2, encoder=encoder, **recommended(), **options).eval()
    image = torch.randn(1, 3, 32, 32)
    assert [level.shape[1] for level in model.shallow(model.encoder(image))] == channels
    assert model.gate.clusters.shape[1] == sum(channels)
    assert model.seed_scores(image, torch.ones(1, 2)).shape[-1] == 32 // model.stride
