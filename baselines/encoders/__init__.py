"""Image encoders and their weights."""

from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.resnet38 import ResNet38d
from fbr_plugin.baselines.encoders.small import SmallEncoder
from fbr_plugin.baselines.encoders.timm_encoder import TimmEncoder

__all__ = ["ResNet38d", "SmallEncoder", "TimmEncoder", "build_encoder"]
