"""FBR, fine-grained background representation, as a plug-in for weakly supervised segmentation.

The public names are imported when they are first used, so that the command line answers without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from fbr_plugin.modules import ClassAwareGate, FBRLoss
    from fbr_plugin.modules.gate_scores import gate_scores
    from fbr_plugin.training.capture import capture
    from fbr_plugin.training.mixin import FBRMixin

__version__ = "0.1.0"

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

_MODULES = {
    "config": ("FBRConfig", "GateConfig", "recommended"),
    "contract": (
        "Baseline",
        "DenseView",
        "FBRTerms",
        "GateTerms",
        "MaskPrediction",
        "SeedPrediction",
        "ViewShape",
    ),
    "modules": ("ClassAwareGate", "FBRLoss", "gate_scores"),
    "training.capture": ("capture",),
    "training.mixin": ("FBRMixin",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = vars(import_module(f"fbr_plugin.{module}"))[name]
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
