"""PPC: pixel-to-prototype contrast on SEAM, and EPS."""

from fbr_plugin.baselines.ppc.module import PPC, PPCFBR

__all__ = ["PPC", "PPCFBR"]
