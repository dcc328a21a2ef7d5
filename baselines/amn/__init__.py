"""AMN: a segmentation network conditioned on the image labels."""

from fbr_plugin.baselines.amn.module import AMN, AMNFBR

__all__ = ["AMN", "AMNFBR"]
