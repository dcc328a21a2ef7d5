"""Bilinear resizing of maps."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bring maps [B, K, h, w] to a height and width, bilinearly; the same where they have it already."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
