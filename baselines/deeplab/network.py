"""DeepLab-v2's head."""

import torch
from torch import Tensor, nn


class ASPP(nn.ModuleList):
    """Dilated 3x3 convolutions whose outputs are summed to logits: the head of DeepLab-v2.

    Weights start from N(0, 0.01), biases from 0, as in deeplab-pytorch (commit 4219467).

    Args:
        channels: width L of the features.
        num_classes: number of foreground classes C.
        rates: dilation of each convolution.
    """

    def __init__(self, channels: int, num_classes: int, rates: tuple[int, ...]) -> None:
        super().__init__(
            nn.Conv2d(channels, 1 + num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self:
            nn.init.normal_(branch.get_parameter("weight"), 0, 0.01)
            nn.init.zeros_(branch.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """Map features: [B, L, h, w] to logits [B, 1+C, h, w]."""
        return torch.stack([branch(features) for branch in self]).sum(0)
