"""CAM: a classifier whose class activation maps are the seeds."""

from fbr_plugin.baselines.cam.module import CAM, CAMFBR

__all__ = ["CAM", "CAMFBR"]
