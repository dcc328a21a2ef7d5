"""Mask R-CNN: a network of instances, trained on pseudo instances."""

from fbr_plugin.baselines.mask_rcnn.module import MaskRCNN

__all__ = ["MaskRCNN"]
