"""DeepLab's heads, and its views of an image at several scales."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fbr_plugin.errors import InputError
from fbr_plugin.functional import resize

FUSED_SCALES = (0.5, 0.75)  # of the released network, besides the image's own


def check_rates(rates: Sequence[int]) -> None:
    """Raise unless there are dilation rates of at least 1."""
    if not rates or min(rates) < 1:
        raise InputError(f"rates must be one or more dilations of at least 1, got {[*rates]}")


class ASPP(nn.ModuleList):
    """Dilated 3x3 convolutions whose outputs are summed to logits: the head of DeepLab-v2.

    Weights start from N(0, 0.01), biases from 0, as in deeplab-pytorch (commit 4219467).

    Args:
        channels: width L of the features.
        num_classes: number of foreground classes C.
        rates: dilation of each convolution.
    """

    def __init__(self, channels: int, num_classes: int, rates: tuple[int, ...]) -> None:
        check_rates(rates)
        super().__init__(
            nn.Conv2d(channels, 1 + num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self:
            nn.init.normal_(branch.get_parameter("weight"), 0, 0.01)
            nn.init.zeros_(branch.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """Map features: [B, L, h, w] to logits [B, 1+C, h, w]."""
        return torch.stack([branch(features) for branch in self]).sum(0)


class ConcatASPP(nn.Module):
    """Dilated 3x3 convolutions and a pooling of the image, joined by a 1x1 convolution: PPC's head.

    It is DeepLab-v3's (Chen et al., arXiv 1706.05587) with four dilations and without the branch of 1x1,
    after `segmentation/` of usr922/wseg at e96b961. Weights start as there, from He's normal distribution.

    Args:
        channels: width L of the features.
        num_classes: number of foreground classes C.
        rates: dilation of each convolution.
        width: channels of each branch.
    """

    def __init__(self, channels: int, num_classes: int, rates: tuple[int, ...], width: int = 256) -> None:
        super().__init__()
        check_rates(rates)
        self.branches = nn.ModuleList(
            normalised(nn.Conv2d(channels, width, 3, padding=rate, dilation=rate, bias=False))
            for rate in rates
        )
        self.pooled = normalised(nn.Conv2d(channels, width, 1, bias=False))
        self.joint = normalised(nn.Conv2d((1 + len(rates)) * width, width, 1, bias=False))
        self.dropout = nn.Dropout(0.75)  # 0.5 twice in the released code
        self.classifier = nn.Conv2d(width, 1 + num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, features: Tensor) -> Tensor:
        """Map features: [B, L, h, w] to logits [B, 1+C, h, w].

        Raises:
            ValueError: one image in training, whose pooled features have no variance.
        """
        if self.training and len(features) == 1:
            raise InputError(
                "head='concat' normalises pooled features over the images of a batch, got a batch of 1: "
                "train with a batch_size of 2 or more on each process, or with head='sum'"
            )
        pooled = self.pooled(features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[2:])
        joint = self.joint(torch.cat([*(branch(features) for branch in self.branches), pooled], 1))
        logits: Tensor = self.classifier(self.dropout(joint))
        return logits


def normalised(convolution: nn.Conv2d) -> nn.Sequential:
    """A convolution with batch normalisation and ReLU."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels, momentum=3e-4), nn.ReLU())


HEADS: dict[str, Callable[[int, int, tuple[int, ...]], nn.Module]] = {"sum": ASPP, "concat": ConcatASPP}


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
