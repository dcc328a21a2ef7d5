"""FBR, fine-grained background representation, as a plug-in for weakly supervised segmentation."""

from fbr_plugin.config import FBRConfig
from fbr_plugin.contract import DenseView, FBRTerms
from fbr_plugin.modules import FBRLoss
from fbr_plugin.training.mixin import FBRMixin, capture, gate_scores

__all__ = ["DenseView", "FBRConfig", "FBRLoss", "FBRMixin", "FBRTerms", "capture", "gate_scores"]
