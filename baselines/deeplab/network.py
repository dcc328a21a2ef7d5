"""DeepLab-v2's head, and its views of an image at several scales."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fbr_plugin.functional import resize

FUSED_SCALES = (0.5, 0.75)  # of the released network, besides the image's own


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


def fused_logits(network: Callable[[Tensor], Tensor], image: Tensor) -> list[Tensor]:
    """Logits at the image's own scale, at 0.5 and at 0.75 of it, and the maximum of the three.

    After `libs/models/msc.py` of deeplab-pytorch.

    Args:
        network: image [B, 3, H, W] to logits [B, 1+C, h, w].
        image: [B, 3, H, W].

    Returns:
        Four logits [B, 1+C, h_j, w_j], each on its own grid; the maximum is on the first one's.
    """
    scaled = (interpolate(image, scale_factor=scale, mode="bilinear") for scale in FUSED_SCALES)
    logits = [network(view).float() for view in (image, *scaled)]
    size = logits[0].shape[-2:]
    return [*logits, torch.stack([resize(each, size) for each in logits]).amax(0)]
