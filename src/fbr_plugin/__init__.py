"""FBR, fine-grained background representation, as a plug-in for weakly supervised segmentation."""

from fbr_plugin.config import FBRConfig, GateConfig, recommended
from fbr_plugin.contract import (
    Baseline,
    DenseView,
    FBRTerms,
    GateTerms,
    MaskPrediction,
    SeedPrediction,
    ViewShape,
)
from fbr_plugin.modules import ClassAwareGate, FBRLoss, gate_scores
from fbr_plugin.training.capture import capture
from fbr_plugin.training.mixin import FBRMixin

__all__ = [
    "Baseline",
    "ClassAwareGate",
    "DenseView",
    "FBRConfig",
    "FBRLoss",
    "FBRMixin",
    "FBRTerms",
    "GateConfig",
    "GateTerms",
    "MaskPrediction",
    "SeedPrediction",
    "ViewShape",
    "capture",
    "gate_scores",
    "recommended",
]
