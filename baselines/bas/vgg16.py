"""VGG16 as in BAS's released code."""

from torch import Tensor, nn

from fbr_plugin.baselines.encoders.common import aligned_levels, load_torchvision

ENDS = (3, 8, 15, 22, 29)  # the last ReLU before each pooling, and that of conv5_3


class VGG16(nn.Module):
    """VGG16 up to conv5_3, without the fifth pooling: BAS makes its maps from conv4_3 at stride 8.

    After `WSOL/Model/vgg.py` of wpy1999/BAS-Extension at bd1bfa8. Files of weights have torchvision's key
    names.

    Args:
        pretrained: download torchvision's weights (`IMAGENET1K_V1`).

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.

    Raises:
        FileNotFoundError: the pretrained weights cannot be downloaded.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    strides: tuple[int, ...] = (1, 2, 4, 8, 16)
    stride = 16

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import VGG16_Weights  # here, as it takes a second
        from torchvision.models.vgg import cfgs, make_layers

        self.features = make_layers(cfgs["D"])[: ENDS[-1] + 1]
        if pretrained:
            load_torchvision(self, "VGG16 of BAS", VGG16_Weights.IMAGENET1K_V1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""
        return aligned_levels(self._levels, image, self.strides)

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last."""
        stages: nn.Sequential = self.features[ENDS[-1 - count] + 1 :]
        return stages

    def _levels(self, image: Tensor) -> list[Tensor]:
        levels, x = [], image
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in ENDS:
                levels.append(x)
        return levels
