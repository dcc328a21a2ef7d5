"""Baselines of weakly supervised segmentation, each with its variant that trains with FBR."""

from baselines.amn import AMN, AMNFBR
from baselines.bas import BAS, BASFBR
from baselines.cam import CAM, CAMFBR
from baselines.deeplab import DeepLabV2
from baselines.encoders import SmallEncoder, build_encoder
from baselines.irn import IRN
from baselines.ppc import PPC, PPCFBR
from baselines.resnet38 import ResNet38d
from baselines.task import SeedTask

__all__ = [
    "AMN",
    "AMNFBR",
    "BAS",
    "BASFBR",
    "CAM",
    "CAMFBR",
    "IRN",
    "PPC",
    "PPCFBR",
    "DeepLabV2",
    "ResNet38d",
    "SeedTask",
    "SmallEncoder",
    "build_encoder",
]
