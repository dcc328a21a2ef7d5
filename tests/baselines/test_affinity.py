"""AffinityNet: against the released code with the same weights, in training, and what it needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.random_data import RandomData
from helpers.released import NarrowResNet38, close, fixed_input, reference, uniform, with_fixed_weights
from helpers.runs import Losses, fit
from torch import nn
from torch.nn.functional import pad

from fbr_plugin.baselines import AffinityNet
from fbr_plugin.baselines.affinity.network import affinity, affinity_losses, inner_starts
from fbr_plugin.baselines.encoders import build
from fbr_plugin.contract import ScorePropagator
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.functional.random_walk import neighbours, paths


def test_against_the_released_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """YudeWang/SEAM at 3212261: features, affinities, losses and walk."""
    monkeypatch.setattr(build, "ResNet38d", NarrowResNet38)
    model, released = with_fixed_weights(AffinityNet(20, border_pairs=False)).train(), reference("affinity")
    image = fixed_input("image", 1, 3, 100, 92)
    features = model(pad(image, (0, 4, 0, 4)))
    starts = inner_starts(features[0, 0], 5)
    pairs = [affinity(features[0], path)[neighbours(starts, path[-1]) > 0] for path in paths(5)]
    label = (uniform("label", *starts.shape) * 4).long()
    losses = affinity_losses(features, label.masked_fill(label == 3, 255)[None], 5, border_pairs=False)
    walked = model.eval().propagate(image, uniform("scores", 3, 100, 92))
    ours = {
        "features": features[:, ::16],
        "affinities": torch.stack(pairs)[::4],
        "losses": torch.stack(losses),
        "walk": walked[:, ::8, ::8],
    }
    assert ours.keys() == released.keys()
    for name, value in ours.items():
        # The released walk squares a dense matrix in single precision.
        close(value, released[name], 2e-5 if name == "walk" else 1e-6)


def test_losses_against_a_loop(generator: torch.Generator) -> None:
    features = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64).requires_grad_()
    label = torch.randint(3, (2, 5, 6), generator=generator)
    label[0, 1, 2] = 255
    sums, pairs = [0.0] * 3, [0] * 3
    for b in range(2):
        for y, x in ((y, x) for y in range(5) for x in range(6)):
            for v, u in ((v, u) for v in range(5) for u in range(6)):
                if (
                    (v, u) <= (y, x)
                    or (v - y) ** 2 + (u - x) ** 2 >= 9
                    or 255 in (label[b, y, x], label[b, v, u])
                ):
                    continue
                alike = torch.exp(-(features[b, :, y, x] - features[b, :, v, u]).abs().mean())
                kind = 2 if label[b, y, x] != label[b, v, u] else int(label[b, y, x] > 0)
                sums[kind] = sums[kind] - ((1 - alike if kind == 2 else alike) + 1e-5).log()
                pairs[kind] += 1
    means = [value / count for value, count in zip(sums, pairs, strict=True)]
    expected = (means[0] + means[1]) / 4 + means[2] / 2
    ours = affinity_losses(features, label, 3)
    torch.testing.assert_close(torch.stack(ours), torch.stack([*means, expected]))
    gradients = [torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in (ours.total, expected)]
    torch.testing.assert_close(*gradients)


def test_one_label_has_no_other_pairs(generator: torch.Generator) -> None:
    features = torch.randn(1, 4, 5, 6, generator=generator)
    losses = affinity_losses(features, torch.zeros(1, 5, 6, dtype=torch.int64))
    assert losses.background > 0
    assert losses.foreground == losses.negative == 0


@pytest.mark.parametrize("size", [(32, 40), (33, 41), (4, 3)])
def test_walk_keeps_constants_and_range(size: tuple[int, int]) -> None:
    model = AffinityNet(3, encoder="small").eval()
    assert isinstance(model, ScorePropagator)
    scores = torch.rand(2, 16, 20)
    walked = model.propagate(torch.randn(1, 3, *size), scores)
    assert walked.shape == scores.shape
    assert 0 <= walked.min() <= walked.max() <= 1
    if not any(side % model.stride for side in size):
        torch.testing.assert_close(
            model.propagate(torch.randn(1, 3, *size), torch.full((1, 16, 20), 0.27)),
            torch.full((1, 16, 20), 0.27),
        )
    assert model.propagate(torch.randn(1, 3, *size), scores[:0]).shape == (0, 16, 20)


def test_scores_stay_within_what_is_alike() -> None:
    """Two halves without affinity: no score crosses; with a beta of nearly 0, it does."""

    class Halves(AffinityNet):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            features = torch.zeros(1, 448, 8, 8)
            features[..., 4:] = 50.0
            return features

    scores = torch.zeros(1, 32, 32)
    scores[:, :, :16] = 1
    image = torch.zeros(1, 3, 32, 32)
    walked = Halves(3, encoder="small").propagate(image, scores)
    assert walked[0, :, :14].min() > 0.999
    assert walked[0, :, 18:].max() < 0.001
    mixed = Halves(3, encoder="small", walk_beta=1e-4, walk_steps=500).propagate(image, scores)
    assert mixed.std() < 0.01


def test_trains(scenes: Callable[..., SyntheticDataModule], tmp_path: Path) -> None:
    recorder, model = Losses(), AffinityNet(5, encoder="small", radius=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, scenes(), tmp_path, callbacks=[recorder])
    assert all((value != before[name]).any() for name, value in model.named_parameters())
    assert len(recorder.values) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 1}, "radius must be at least 2 for pixels to have neighbours, got 1"),
        ({"walk_beta": 0.0}, "a beta above 0 .* got radius=5, beta=0.0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AffinityNet(3, **{"encoder": "small", **options})


def test_an_encoder_of_two_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shallow(nn.Module):
        channels, strides, stride = (48, 96), (4, 4), 4

    monkeypatch.setattr("fbr_plugin.baselines.tasks.encoder_task.build_encoder", lambda *_: Shallow())
    with pytest.raises(ValueError, match="AffinityNet needs an encoder with three levels, 'small' has 2"):
        AffinityNet(3, encoder="small")


def test_what_it_needs() -> None:
    model, batch = AffinityNet(3, encoder="small"), RandomData("pseudo_label").batch()
    with pytest.raises(ValueError, match="AffinityNet trains on labels, and the batch has no 'pseudo_label'"):
        model.training_step(batch, 0)
    with pytest.raises(ValueError, match=r"one image .* got \(2, 3, 32, 40\)"):
        model.propagate(batch["image"], torch.rand(1, 32, 40))
