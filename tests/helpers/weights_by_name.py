"""Weights and inputs by a rule, so that a test and the released code make the same ones without a file."""

import math
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn


def uniform(name: str, *shape: int) -> Tensor:
    """Numbers in [0, 1) that look random and depend on the name alone."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    values = np.sin(index * 12.9898 + crc32(name.encode()) % 10_000) * 43758.5453
    return torch.from_numpy((values - np.floor(values)).astype(np.float32)).view(shape)


def fixed_weight(name: str, shape: torch.Size) -> Tensor:
    """A parameter or buffer: convolutions keep the variance, normalisations differ from the identity."""
    values = uniform(name, *shape)
    if len(shape) > 1:
        return (2 * values - 1) * math.sqrt(3 / math.prod(shape[1:]))
    if name.endswith("var") or name.endswith("weight"):
        return values + 0.5
    return 0.2 * (values - 0.5)


def fix_weights(module: nn.Module, prefix: str = "") -> None:
    """Set all floating parameters and buffers of a module by their names."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(fixed_weight(prefix + name, value.shape))
