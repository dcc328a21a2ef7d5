"""Weights that depend only on their names and shapes, so that released networks need not be stored."""

from binascii import crc32
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def fixed_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pseudo-random values for a state dict, in the range of a trained network's.

    Each tensor is drawn uniformly from NumPy's legacy generator, whose stream is guaranteed to stay, with its
    name as the seed. Convolutions have the variance 1 / fan-in. Scales and variances of batch normalisation
    are within 0.5 to 1.5, other vectors within -0.1 to 0.1, counters are 0.
    """
    return {name: _values(name, value) for name, value in state.items()}


def fixed_input(name: str, *shape: int) -> Tensor:
    """A pseudo-random tensor within -2 to 2, with its name as the seed."""
    return 4 * _uniform(name, shape) - 2


def _values(name: str, value: Tensor) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(value)
    share = _uniform(name, value.shape)
    if value.ndim > 1:
        return (2 * share - 1) * (3 / value[0].numel()) ** 0.5
    if name.endswith(("weight", "running_var")):
        return 0.5 + share
    return (2 * share - 1) / 10


def _uniform(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers within 0 to 1."""
    return torch.from_numpy(np.random.RandomState(crc32(name.encode())).random_sample(shape)).float()
