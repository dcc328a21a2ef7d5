"""InceptionV3 as in BAS's released code."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torchvision.models import Inception_V3_Weights
from torchvision.models.inception import (
    BasicConv2d,
    InceptionA,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)

from fbr_plugin.baselines.encoders.common import aligned_levels, load_torchvision
from fbr_plugin.errors import InputError

LEVELS = ("Mixed_5d", "Mixed_6e", "Mixed_7c")


class PaddedB(InceptionB):
    """The block before the 17x17 grid, here without its stride."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        for layer in (self.branch3x3, self.branch3x3dbl_3):
            layer.conv.stride, layer.conv.padding = (1, 1), (1, 1)

    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch3x3(x), double, max_pool2d(x, 3, 1, padding=1)]


class PaddedD(InceptionD):
    """The block before the 8x8 grid, here padded, so that it halves even sizes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        for layer in (self.branch3x3_2, self.branch7x7x3_4):
            layer.conv.padding = (1, 1)

    def _forward(self, x: Tensor) -> list[Tensor]:
        deep = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return [
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch7x7x3_4(deep),
            max_pool2d(x, 3, 2, padding=1),
        ]


class InceptionV3(nn.Module):
    """InceptionV3 of stride 16, which BAS splits before Mixed_7a, at stride 8.

    After `WSOL/Model/inception.py` of wpy1999/BAS-Extension at bd1bfa8: torchvision's network without the
    stride of Mixed_6a, and with padding where sizes would be odd. Files of weights have torchvision's key
    names. As in the released code, images are normalised by ImageNet's mean and deviation, although those
    weights were trained with another normalisation.

    Args:
        pretrained: download torchvision's weights (`IMAGENET1K_V1`).

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.

    Raises:
        FileNotFoundError: the pretrained weights cannot be downloaded.
    """

    channels: tuple[int, ...] = (64, 288, 768, 2048)
    strides: tuple[int, ...] = (4, 8, 8, 16)
    stride = 16

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, kernel_size=3, stride=2, padding=1)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, kernel_size=3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, kernel_size=3)
        self.Mixed_5b = InceptionA(192, pool_features=32)
        self.Mixed_5c = InceptionA(256, pool_features=64)
        self.Mixed_5d = InceptionA(288, pool_features=64)
        self.Mixed_6a = PaddedB(288)
        self.Mixed_6b = InceptionC(768, channels_7x7=128)
        self.Mixed_6c = InceptionC(768, channels_7x7=160)
        self.Mixed_6d = InceptionC(768, channels_7x7=160)
        self.Mixed_6e = InceptionC(768, channels_7x7=192)
        self.Mixed_7a = PaddedD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        if pretrained:
            load_torchvision(self, "InceptionV3 of BAS", Inception_V3_Weights.IMAGENET1K_V1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""
        return aligned_levels(self._levels, image, self.strides)

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last."""
        if count >= len(LEVELS):
            raise InputError(
                f"BAS's InceptionV3 can be split before its last 1 or 2 levels, not {count}: the maps of the "
                "generator come from level -2 or -3"
            )
        blocks = self._blocks()
        return nn.Sequential(*list(blocks.values())[list(blocks).index(LEVELS[-1 - count]) + 1 :])

    def _blocks(self) -> dict[str, Any]:
        return {name: block for name, block in self.named_children() if name.startswith("Mixed")}

    def _levels(self, image: Tensor) -> list[Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))
        levels = [max_pool2d(x, 3, 2, padding=1, ceil_mode=True)]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(levels[0]))
        x = max_pool2d(x, 3, 2, padding=1, ceil_mode=True)
        for name, block in self._blocks().items():
            x = block(x)
            if name in LEVELS:
                levels.append(x)
        return levels
