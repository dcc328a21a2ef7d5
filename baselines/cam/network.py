"""Pooling of features to class scores."""

from typing import Literal

from torch import Tensor

Pooling = Literal["gap", "tap"]  # global or thresholded average


def thresholded_average(features: Tensor, share: float = 0.1) -> Tensor:
    """Average each map over the pixels that exceed a share of its maximum (thresholded average pooling).

    After Bae et al., Rethinking Class Activation Mapping for Weakly Supervised Object Localization (ECCV
    2020). A map without a positive value pools to 0.

    Args:
        features: [B, L, h, w].
        share: of the map's maximum.

    Returns:
        [B, L, 1, 1].
    """
    kept = (features > share * features.amax((2, 3), keepdim=True)) & (features > 0)
    return (features * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True).clamp(min=1)
