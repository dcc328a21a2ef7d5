"""The ResNet-101 of DeepLab-v2's released code.

After `libs/models/resnet.py` of kazuto1011/deeplab-pytorch at 4219467, which repeats the network in Caffe of
Chen et al., DeepLab (TPAMI 2018). Modules are named as in its files of weights.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fbr_plugin.data.transforms import MEAN, STD

CAFFE_MEAN = (122.675, 116.669, 104.008)  # of the channels R, G, B, of 255


class ResNet101(nn.Module):
    """ResNet-101 of output stride 8, with the weights of deeplab-pytorch and AdvCAM.

    It differs from torchvision's: stages have their stride in the first 1x1 convolution, all blocks of the
    last two are dilated by 2 and 4, the max-pooling rounds up, and the network sees B, G, R in 0 to 255 minus
    their mean, which it makes of the images of ImageNet's mean and deviation. A file of weights has the keys
    of deeplab-pytorch; its classifier is left out.

    Args:
        blocks: residual blocks of each stage.
        width: channels of the first level; the others have 4, 8, 16 and 32 times as many.

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.
    """

    strides: tuple[int, ...] = (4, 4, 8, 8, 8)
    stride = 8

    def __init__(self, blocks: Sequence[int] = (3, 4, 23, 3), width: int = 64) -> None:
        super().__init__()
        self.channels: tuple[int, ...] = (width, 4 * width, 8 * width, 16 * width, 32 * width)
        pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.layer1 = nn.Sequential(OrderedDict(conv1=convolution(3, width, 7, stride=2), pool=pool))
        stages = zip(blocks, self.channels, self.channels[1:], (1, 2, 1, 1), (1, 1, 2, 4), strict=False)
        for number, stage in enumerate(stages, start=2):
            self.add_module(f"layer{number}", residual_stage(*stage))
        deviation, mean, caffe_mean = (torch.tensor(each)[:, None, None] for each in (STD, MEAN, CAFFE_MEAN))
        self.register_buffer("scale", 255 * deviation, persistent=False)
        self.register_buffer("shift", 255 * mean - caffe_mean, persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""
        height, width = image.shape[-2:]
        return [
            level[..., : -(-height // stride), : -(-width // stride)]
            for level, stride in zip(self.whole_levels(image), self.strides, strict=True)
        ]

    def whole_levels(self, image: Tensor) -> list[Tensor]:
        """The levels with their last row and column, which `forward` leaves out where they pass the image.

        As the max-pooling rounds up, the last level of a side of 8n - 1 or 8n pixels has n + 1 rows.
        """
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        levels = [(image * scale + shift).flip(1)]
        for stage in self.children():
            levels.append(stage(levels[-1]))
        return levels[1:]


def convolution(
    channels: int, width: int, side: int, stride: int = 1, dilation: int = 1, last: bool = False
) -> nn.Sequential:
    """A convolution with batch normalisation and, unless it is the `last` of a block's branch, ReLU."""
    padding = dilation * (side // 2)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, width, side, stride, padding, dilation, bias=False),
        bn=nn.BatchNorm2d(width, momentum=0.001),
    )
    if not last:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


def residual_stage(blocks: int, channels: int, width: int, stride: int, dilation: int) -> nn.Sequential:
    """Bottleneck blocks from `channels` to `width` channels, the first of which has the stride."""
    first = Bottleneck(channels, width, stride, dilation, shortcut=True)
    others = (Bottleneck(width, width, 1, dilation) for _ in range(blocks - 1))
    return nn.Sequential(
        OrderedDict((f"block{number}", block) for number, block in enumerate([first, *others], start=1))
    )


class Bottleneck(nn.Module):
    """A residual block, whose stride is in its first 1x1 convolution.

    Args:
        channels: width of the input.
        width: of the output; the 3x3 convolution has a quarter of it.
        stride: of the block.
        dilation: of its 3x3 convolution.
        shortcut: whether the input is projected before it is added.
    """

    def __init__(self, channels: int, width: int, stride: int, dilation: int, shortcut: bool = False) -> None:
        super().__init__()
        self.reduce = convolution(channels, width // 4, 1, stride)
        self.conv3x3 = convolution(width // 4, width // 4, 3, dilation=dilation)
        self.increase = convolution(width // 4, width, 1, last=True)
        self.shortcut = convolution(channels, width, 1, stride, last=True) if shortcut else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map features: [B, channels, h, w] to [B, width, h / stride, w / stride], rounded up."""
        residual = self.increase(self.conv3x3(self.reduce(features)))
        return torch.relu(residual + self.shortcut(features))
