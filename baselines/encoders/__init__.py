"""Image encoders and their weights."""

from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.protocol import Encoder, SplitEncoder
from fbr_plugin.baselines.encoders.resnet38 import ResNet38d
from fbr_plugin.baselines.encoders.resnet50 import ResNet50
from fbr_plugin.baselines.encoders.resnet101 import ResNet101
from fbr_plugin.baselines.encoders.small import SmallEncoder
from fbr_plugin.baselines.encoders.timm_encoder import TimmEncoder
from fbr_plugin.baselines.encoders.torchvision_encoder import TorchvisionEncoder

__all__ = [
    "Encoder",
    "ResNet38d",
    "ResNet50",
    "ResNet101",
    "SmallEncoder",
    "SplitEncoder",
    "TimmEncoder",
    "TorchvisionEncoder",
    "build_encoder",
]
