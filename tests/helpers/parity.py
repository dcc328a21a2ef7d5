"""What comparisons with released code share: its results, its recipes, and a toy network to train."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from helpers.released import fixed_weights
from safetensors.torch import load_file
from torch import Tensor, nn

from fbr_plugin.baselines.encoders import ResNet101

TESTS = Path(__file__).parents[1]


def reference(name: str) -> dict[str, Tensor]:
    """What the released code returned."""
    return load_file(TESTS / "reference" / f"{name}.safetensors")


def example(name: str) -> dict[str, Any]:
    """The settings of an example."""
    settings: dict[str, Any] = yaml.safe_load((TESTS.parent / "examples" / f"{name}.yaml").read_text())
    return settings


def with_fixed_weights(module: nn.Module) -> nn.Module:
    """The module itself, with the weights that the released network was given."""
    module.load_state_dict(fixed_weights(module.state_dict()))
    return module


def close(ours: Tensor, released: Tensor, tolerance: float = 1e-5) -> None:
    """Check that two tensors differ by at most a share of the largest value."""
    assert ours.shape == released.shape
    assert (ours - released).abs().max() <= tolerance * released.abs().max()


def toy_descent(built: dict[str, Any], weights: Sequence[nn.Parameter], steps: int) -> Tensor:
    """Minimise a small function with an optimizer and its schedule; the learning rates [steps, groups]."""
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        optimizer.zero_grad()
        first, second, *rest = weights
        misfit = first.sum() - 2 * second.prod() + sum(each.sum() for each in rest)
        (0.05 * misfit.square() + 0.01 * second.square().sum()).backward()
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return torch.tensor(rates, dtype=torch.float64)


class SmallResNet101(ResNet101):
    """DeepLab-v2's encoder with fewer blocks."""

    def __init__(self) -> None:
        super().__init__((1, 1, 2, 1))
