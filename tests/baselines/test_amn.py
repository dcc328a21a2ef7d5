"""AMN's loss, its head, and the labels it needs."""

import math
from typing import Any

import pytest
import torch
from helpers.random_data import RandomData
from torch import Tensor

from fbr_plugin.baselines.amn import module
from fbr_plugin.baselines.amn.module import AMN
from fbr_plugin.baselines.amn.network import ConditionedASPP
from fbr_plugin.baselines.deeplab.losses import balanced_cross_entropy


def naive_balanced_cross_entropy(logits: Tensor, target: Tensor, smoothing: float) -> float:
    """Half the mean over background pixels plus half the mean over foreground pixels, pixel by pixel."""
    losses: dict[bool, list[float]] = {False: [], True: []}
    classes = logits.shape[1]
    for image in range(len(logits)):
        for y in range(logits.shape[2]):
            for x in range(logits.shape[3]):
                label = int(target[image, y, x])
                if label == 255:
                    continue
                values = [math.exp(value) for value in logits[image, :, y, x].tolist()]
                loss = 0.0
                for index, value in enumerate(values):
                    wanted = 1 - smoothing if index == label else smoothing / (classes - 1)
                    loss -= wanted * math.log(value / sum(values))
                losses[label > 0].append(loss)
    means = [sum(part) / len(part) for part in losses.values() if part]
    return sum(means) / len(means)


@pytest.mark.parametrize("values", [[0, 1, 2, 3, 255], [0, 255], [1, 3, 255]])
def test_balanced_cross_entropy_against_a_loop(values: list[int], generator: torch.Generator) -> None:
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    target = torch.tensor(values)[torch.randint(len(values), (2, 5, 6), generator=generator)]
    expected = naive_balanced_cross_entropy(logits, target, 0.4)
    assert balanced_cross_entropy(logits, target, 0.4).item() == pytest.approx(expected, rel=1e-5)


def test_balanced_cross_entropy_without_labels_is_zero() -> None:
    logits = torch.randn(1, 4, 2, 2, requires_grad=True)
    loss = balanced_cross_entropy(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_head_conditions_features_and_sums_its_branches() -> None:
    head = ConditionedASPP(6, 3, rates=(1, 2)).eval()
    features, label = torch.randn(2, 6, 5, 5), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    logits, conditioned = head(features, label)
    scale = label @ head.condition.weight.T + head.condition.bias
    torch.testing.assert_close(conditioned, features * scale[:, :, None, None])
    torch.testing.assert_close(conditioned[1], features[1], msg="the head starts at the identity")
    torch.testing.assert_close(logits, head.branches[0](conditioned) + head.branches[1](conditioned))


def test_released_start_of_the_conditioning() -> None:
    head = ConditionedASPP(600, 16, rates=(1,), condition_init="uniform")
    for values in (head.condition.weight, head.condition.bias):
        assert values.abs().max() <= 1 / 16**0.5
        assert values.abs().mean().item() == pytest.approx(0.125, abs=0.02)
    with pytest.raises(ValueError, match="condition_init must be one of 'identity', 'uniform', got 'zero'"):
        AMN(3, encoder="small", condition_init="zero")  # type: ignore[arg-type]


def test_labels_are_brought_to_the_grid_at_the_middle_of_its_cells(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, targets = RandomData().batch(), []
    batch["pseudo_label"] = torch.randint(4, batch["pseudo_label"].shape, generator=generator)
    monkeypatch.setattr(module, "balanced_cross_entropy", lambda logits, target, _: targets.append(target))
    model = AMN(3, encoder="small")
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    model.training_step(batch, 0)
    assert torch.equal(targets[0], batch["pseudo_label"][:, 2::4, 2::4])


def test_missing_pseudo_labels() -> None:
    batch = RandomData("pseudo_label").batch()
    with pytest.raises(ValueError, match=r"fbr-plugin predict \.\.\. --thresholds FG BG`.* pseudo_label_dir"):
        AMN(3, encoder="small").training_step(batch, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": (1, 0)}, r"^rates must be one or more dilations of at least 1, got \[1, 0\]$"),
        ({"smoothing": 2}, r"^smoothing must lie in \[0, 1\), got 2$"),
        ({"scales": ()}, r"^scales must be one or more positive factors, got \(\)$"),
    ],
)
def test_settings_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AMN(2, encoder="small", **options)
