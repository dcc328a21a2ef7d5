"""MobileNetV1 as in BAS's released code."""

from torch import Tensor, nn

from fbr_plugin.baselines.encoders.common import aligned_levels

# Output channels and stride of each separable convolution, after a first convolution of 32 channels.
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1)
ENDS = (1, 3, 11, 13)  # the last block at each stride


class MobileNetV1(nn.Module):
    """MobileNetV1 of stride 16, which BAS splits before its last two blocks, at stride 8.

    After `WSOL/Model/mobilenet.py` of wpy1999/BAS-Extension at bd1bfa8: the published network without its
    fourth stride. Neither torchvision nor timm has its weights; `weights` takes the file
    `mobilenet_v1_with_relu_69_5.pth` that BAS starts from.

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.
    """

    channels: tuple[int, ...] = (64, 128, 512, 1024)
    strides: tuple[int, ...] = (2, 4, 8, 16)
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        pairs = zip((32, *WIDTHS), WIDTHS, STRIDES, strict=False)
        self.model = nn.Sequential(convolution(3, 32, 2), *(separable(*sizes) for sizes in pairs))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""
        return aligned_levels(self._levels, image, self.strides)

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last."""
        return self.model[ENDS[-1 - count] + 1 :]

    def _levels(self, image: Tensor) -> list[Tensor]:
        levels, x = [], image
        for index, block in enumerate(self.model):
            x = block(x)
            if index in ENDS:
                levels.append(x)
        return levels


def convolution(before: int, after: int, stride: int, groups: int = 1, size: int = 3) -> nn.Sequential:
    """A convolution of `before` to `after` channels, with batch normalisation and ReLU."""
    layer = nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def separable(before: int, after: int, stride: int) -> nn.Sequential:
    """A convolution of each channel of its own, and one of single pixels."""
    return nn.Sequential(
        *convolution(before, before, stride, groups=before), *convolution(before, after, 1, size=1)
    )
