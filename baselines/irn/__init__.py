"""IRN: inter-pixel relations, which propagate seeds up to class boundaries."""

from fbr_plugin.baselines.irn.module import IRN

__all__ = ["IRN"]
