"""ResNet-50 as in BAS's released code."""

from typing import Any

from torch import Tensor, nn

from fbr_plugin.baselines.encoders.common import no_stride, no_weights

DROPPED = {16: ("layer4",), 8: ("layer3", "layer4")}


class ResNet50(nn.Module):
    """Torchvision's ResNet-50 without the stride of its last stages, and without dilation in its place.

    After `WSSS/net/resnet50_bas.py` (stride 16) and `WSOL/Model/resnet.py` (stride 8) of
    wpy1999/BAS-Extension at bd1bfa8. The whole network is trained, with batch statistics. Files of weights
    have torchvision's key names.

    Args:
        output_stride: image pixels per pixel of the last level: 16 for segmentation, 8 for localization.
        pretrained: download torchvision's weights (`IMAGENET1K_V1`, those of BAS).

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.

    Raises:
        ValueError: another output stride.
        FileNotFoundError: the pretrained weights cannot be downloaded.
    """

    channels: tuple[int, ...] = (64, 256, 512, 1024, 2048)

    def __init__(self, output_stride: int = 16, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import ResNet50_Weights, resnet50  # here, as it takes a second

        if output_stride not in DROPPED:
            raise no_stride("ResNet50 of BAS", output_stride, sorted(DROPPED))
        try:
            model: Any = resnet50(weights=ResNet50_Weights.IMAGENET1K_V1 if pretrained else None)
        except Exception as error:
            raise no_weights("ResNet50 of BAS", error) from error
        for name in DROPPED[output_stride]:
            first = model.get_submodule(name)[0]
            first.conv2.stride = first.downsample[0].stride = (1, 1)
        self.conv1, self.bn1, self.relu, self.maxpool = model.conv1, model.bn1, model.relu, model.maxpool
        self.layer1, self.layer2 = model.layer1, model.layer2
        self.layer3, self.layer4 = model.layer3, model.layer4
        self.strides: tuple[int, ...] = (4, 4, 8, output_stride, output_stride)
        self.stride = output_stride

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""
        levels = [self.maxpool(self.relu(self.bn1(self.conv1(image))))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            levels.append(stage(levels[-1]))
        return levels

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last."""
        return nn.Sequential(self.layer1, self.layer2, self.layer3, self.layer4)[-count:]
