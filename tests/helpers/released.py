"""What comparisons with released code share: its results, weights by a rule, small networks, a toy to train.

Weights and inputs depend only on their names and shapes. The released code was run on the same ones, so that
only a few of its outputs need to be stored, in `tests/reference`.
"""

from binascii import crc32
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from fbr_plugin.baselines.encoders import ResNet38d, ResNet101

TESTS = Path(__file__).parents[1]
Network = TypeVar("Network", bound=nn.Module)


def reference(name: str, prefix: str = "") -> dict[str, Tensor]:
    """What the released code returned, of the names with a prefix, which is left out."""
    found = load_file(TESTS / "reference" / f"{name}.safetensors")
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def example(name: str) -> dict[str, Any]:
    """The settings of an example."""
    settings: dict[str, Any] = yaml.safe_load((TESTS.parent / "examples" / f"{name}.yaml").read_text())
    return settings


def close(ours: Tensor, released: Tensor, tolerance: float = 1e-5) -> None:
    """Check that two tensors differ by at most a share of the largest value."""
    assert ours.shape == released.shape
    assert (ours - released).abs().max() <= tolerance * released.abs().max()


def uniform(name: str, *shape: int) -> Tensor:
    """Numbers in [0, 1); the name is the seed of NumPy's legacy generator, whose stream is fixed."""
    return torch.from_numpy(np.random.RandomState(crc32(name.encode())).random_sample(shape)).float()


def fixed_input(name: str, *shape: int) -> Tensor:
    """A pseudo-random tensor within -2 to 2."""
    return 4 * uniform(name, *shape) - 2


def fixed_weights(state: Mapping[str, Tensor], gain: float = 1.0) -> dict[str, Tensor]:
    """Pseudo-random values for a state dict, in the range of a trained network's.

    Convolutions have the variance gain / fan-in; without shortcuts, a deep network needs a gain of 2 to see
    its image. Scales and variances of batch normalisation are within 0.5 to 1.5, other vectors within -0.1 to
    0.1, counters are 0.
    """
    return {name: _values(name, value, gain) for name, value in state.items()}


def with_fixed_weights(network: Network, gain: float = 1.0) -> Network:
    """The network itself, with fixed weights; what is stored beside tensors stays."""
    state = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    network.load_state_dict(fixed_weights(state, gain), strict=False)
    return network


def _values(name: str, value: Tensor, gain: float) -> Tensor:
    if not value.is_floating_point():
        return torch.zeros_like(value)
    share = uniform(name, *value.shape)
    if value.ndim > 1:
        return (2 * share - 1) * (3 * gain / value[0].numel()) ** 0.5
    if name.endswith(("weight", "running_var")):
        return 0.5 + share
    return (2 * share - 1) / 10


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


class NarrowResNet38(ResNet38d):
    """ResNet-38d with a sixteenth of its channels, frozen as with trained weights, and without dropout."""

    width = 4

    def __init__(self, frozen: bool = True) -> None:
        super().__init__(frozen=True)
        for module in self.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0
