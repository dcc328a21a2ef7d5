"""Pseudo-random weights and images that two implementations of a network can make alike, without a file."""

import torch
from torch import Tensor, nn


def fill(module: nn.Module, seed: int) -> None:
    """Set all weights and buffers of a module by their order, shape and kind, not by their names' prefixes.

    Convolutions keep the scale of their inputs; normalisations get positive weights and variances.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() > 1:
            noise *= (2 / value[0].numel()) ** 0.5
        elif name.endswith(("weight", "running_var")):
            noise = 1 + 0.2 * noise.clamp(-3, 3)
        else:
            noise *= 0.1
        value.copy_(noise)


def fixed_images(count: int, side: int, seed: int) -> Tensor:
    """Smooth random images [count, 3, side, side]."""
    coarse = torch.randn(count, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, (side, side), mode="bicubic")
