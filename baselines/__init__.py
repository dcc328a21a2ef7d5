"""Baselines of weakly supervised segmentation, each with its variant that trains with FBR."""

from baselines.amn import AMN, AMNFBR
from baselines.bas import BAS, BASFBR
from baselines.cam import CAM, CAMFBR
from baselines.encoders import SmallEncoder, build_encoder
from baselines.task import SeedTask

__all__ = ["AMN", "AMNFBR", "BAS", "BASFBR", "CAM", "CAMFBR", "SeedTask", "SmallEncoder", "build_encoder"]
