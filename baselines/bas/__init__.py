"""BAS: background activation suppression."""

from fbr_plugin.baselines.bas.module import BAS, BASFBR

__all__ = ["BAS", "BASFBR"]
