"""DeepLab-v2: a segmentation network trained on pseudo masks."""

from fbr_plugin.baselines.deeplab.module import DeepLabV2

__all__ = ["DeepLabV2"]
