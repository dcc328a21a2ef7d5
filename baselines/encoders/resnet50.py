"""The ResNet-50 that the released CAM, AMN and IRN share.

After `net/resnet50.py` of jiwoon-ahn/irn at a2ece00, which gaviotas/AMN repeats: torchvision's ResNet-50
without the stride of its last stage, and with batch normalisation by the statistics of ImageNet.
"""

from typing import Any

from torch import Tensor, nn

from fbr_plugin.baselines.encoders.common import no_weights


class ResNet50(nn.Module):
    """ResNet-50 of output stride 16, whose last stage has no stride and no dilation.

    Batch normalisation always takes its stored statistics; its weights and biases are trained. The first
    convolution and its normalisation are frozen. The network therefore needs trained weights; a file of them
    has torchvision's key names.

    Args:
        pretrained: download torchvision's weights (`IMAGENET1K_V1`, the released ones).

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.

    Raises:
        FileNotFoundError: the pretrained weights cannot be downloaded.
    """

    channels: tuple[int, ...] = (64, 256, 512, 1024, 2048)
    strides: tuple[int, ...] = (4, 4, 8, 16, 16)
    stride = 16

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import ResNet50_Weights, resnet50  # here, as it takes a second

        try:
            model = resnet50(weights=ResNet50_Weights.IMAGENET1K_V1 if pretrained else None)
        except Exception as error:
            raise no_weights("resnet50_irn", error) from error
        first: Any = model.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        self.conv1 = model.conv1.requires_grad_(False)
        self.bn1 = model.bn1.requires_grad_(False)
        self.relu, self.maxpool = model.relu, model.maxpool
        self.layer1, self.layer2 = model.layer1, model.layer2
        self.layer3, self.layer4 = model.layer3, model.layer4
        self.train()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels, all after ReLU.

        Returns:
            [B, 64, H/4, W/4] after the max-pooling, [B, 256, H/4, W/4], [B, 512, H/8, W/8],
            [B, 1024, H/16, W/16] and [B, 2048, H/16, W/16], rounded up.
        """
        levels = [self.maxpool(self.relu(self.bn1(self.conv1(image))))]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            levels.append(stage(levels[-1]))
        return levels

    def last_stage(self) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but one into the last."""
        return nn.Sequential(self.layer4)

    def train(self, mode: bool = True) -> "ResNet50":
        """Set the mode, but leave batch normalisation in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
