"""Bilinear resizing of maps."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import interpolate


def resize(maps: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize maps [B, K, h, w] bilinearly to a height and width; maps of that size are returned unchanged."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)
