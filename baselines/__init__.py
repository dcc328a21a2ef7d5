"""Baselines of weakly supervised segmentation, each with its variant that trains with FBR."""

# The folder is also importable from the top of the repository, which would create a second set of classes.
if __name__ != "fbr_plugin.baselines":
    raise ImportError(f"import fbr_plugin.baselines, not {__name__}")

from fbr_plugin.baselines.affinity import AffinityNet
from fbr_plugin.baselines.amn import AMN, AMNFBR
from fbr_plugin.baselines.bas import BAS, BASFBR
from fbr_plugin.baselines.cam import CAM, CAMFBR
from fbr_plugin.baselines.deeplab import DeepLabV2
from fbr_plugin.baselines.encoders import Encoder, ResNet38d, ResNet50, ResNet101, SmallEncoder, build_encoder
from fbr_plugin.baselines.irn import IRN
from fbr_plugin.baselines.mask_rcnn import MaskRCNN
from fbr_plugin.baselines.ppc import PPC, PPCFBR
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.baselines.tasks.seed_task import SeedTask

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
    "AffinityNet",
    "DeepLabV2",
    "Encoder",
    "MaskRCNN",
    "OptimizerConfig",
    "ResNet38d",
    "ResNet50",
    "ResNet101",
    "SeedTask",
    "SmallEncoder",
    "build_encoder",
]
