"""A small encoder for small images."""

import torch
from torch import Tensor, nn

SMALL = "small"


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a projected shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x: [B, in_channels, H, W] to [B, out_channels, H/stride, W/stride]."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return torch.relu(y + self.shortcut(x))


class SmallEncoder(nn.Module):
    """A residual encoder of stride 4 for small images, trained from scratch in minutes on a CPU.

    Attributes:
        channels: width of each level, the stem first.
        strides: image pixels per pixel of each level.
        stride: that of the last level.
    """

    channels: tuple[int, ...] = (24, 48, 64, 96)
    strides: tuple[int, ...] = (2, 4, 4, 4)
    stride = 4

    def __init__(self) -> None:
        super().__init__()
        stem, first, second, third = self.channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            [
                ResidualBlock(stem, first, stride=2),
                ResidualBlock(first, second),
                ResidualBlock(second, third, dilation=2),
            ]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels: [B, 24, H/2, W/2], then three at stride 4."""
        levels = [self.stem(image)]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        return levels

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last."""
        return nn.Sequential(*self.blocks[-count:])
