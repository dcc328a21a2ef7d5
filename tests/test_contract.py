"""The contract of the baselines: what each of them must do, bare and with FBR."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from runs import Losses, fit

from baselines import AMN, AMNFBR, BAS, BASFBR, CAM, CAMFBR, PPC, PPCFBR, SeedTask
from fbr_plugin import DenseView, FBRConfig, FBRMixin
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.training.random_state import RandomState

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
OFF = FBRConfig(weight_fg=0, weight_bg=0, weight_seg=0, weight_sim=0)


def build(kind: type[SeedTask], num_classes: int = 5, seed: int = 0, **options: Any) -> Any:
    """A small baseline that learns fast enough for its weights to move."""
    pl.seed_everything(seed, verbose=False)
    options = {"encoder": "small", "lr": 1e-3, "head_lr": 1e-2, "scales": (1.0,), **options}
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
    groups = model.parameter_groups()
    torch.optim.SGD(groups, lr=1e-3).step()
    model.zero_grad()


@pytest.mark.parametrize("size", [(64, 64), (72, 104)], ids=str)
@pytest.mark.parametrize("encoder", ["small", "resnet18"])
@pytest.mark.parametrize("kind", VARIANTS.values())
def test_views(kind: type[SeedTask], encoder: str, size: tuple[int, int]) -> None:
    model, batch = build(kind, encoder=encoder), random_batch([1, 0, 1, 0, 0], *size)
    views = views_of(model, batch)
    assert len(views) == model.num_views
    for view in views:
        assert view.features.shape[:2] == (2, model.feature_channels)
        assert view.scores.shape[:2] in ((2, 5), (2, 6))
        assert view.scores.shape[2:] == view.features.shape[2:]
        assert view.features.requires_grad
        assert torch.equal(view.labels, batch["label"])
        assert [level.shape[1] for level in view.levels] == list(model.encoder.channels)
    train_step(model, batch)
    with torch.no_grad():
        scores = model.eval().seed_scores(batch["image"], batch["label"])
    assert scores.shape[2:] == tuple(-(-side // model.stride) for side in size)


@pytest.mark.parametrize("kind", VARIANTS)
def test_weights_of_zero_are_the_bare_baseline_bit_for_bit(
    kind: type[SeedTask], scenes: Scenes, tmp_path: Path
) -> None:
    options = {"intra_view": False} if kind is PPC else {}  # FBR replaces that contrast
    losses, states = [], []
    for model in (lambda: build(kind, **options), lambda: build(VARIANTS[kind], fbr=OFF)):
        recorder, started = Losses(), model()
        before = deepcopy(started.head.state_dict())
        fit(started, scenes(), tmp_path, callbacks=[recorder], max_steps=3)
        assert any(not torch.equal(value, before[name]) for name, value in started.head.state_dict().items())
        losses.append(recorder.values)
        states.append(started.state_dict())
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_resume_in_the_middle_of_an_epoch_is_exact(
    kind: type[SeedTask], scenes: Scenes, tmp_path: Path
) -> None:
    data = {"num_images": 12}  # 3 batches

    def train(seed: int, ckpt_path: Path | None = None) -> Any:
        saver = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}")
        carriers = [] if issubclass(kind, FBRMixin) else [RandomState()]
        model, options = build(kind, seed=seed), {"callbacks": [saver, *carriers], "max_epochs": 2}
        fit(model, scenes(**data), tmp_path, ckpt_path, enable_checkpointing=True, **options)
        return model.state_dict()

    whole = train(0)
    resumed = train(99, tmp_path / "step=2.ckpt")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


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
        assert model.fbr.skipped == 0


@pytest.mark.parametrize("kind", KINDS)
def test_bf16(kind: type[SeedTask]) -> None:
    model, batch = build(kind), random_batch([1, 0, 1, 0, 0])
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            train_step(model, batch)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


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
