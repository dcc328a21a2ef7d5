"""AffinityNet: semantic affinities of neighbouring pixels, by which seeds spread over their image."""

from fbr_plugin.baselines.affinity.module import AffinityNet

__all__ = ["AffinityNet"]
