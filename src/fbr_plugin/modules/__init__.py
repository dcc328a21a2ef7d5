"""Modules with parameters and buffers; their mathematics is in `fbr_plugin.functional`."""

from fbr_plugin.modules.class_gate import ClassAwareGate
from fbr_plugin.modules.fbr_loss import FBRLoss
from fbr_plugin.modules.gate_scores import gate_scores
from fbr_plugin.modules.heads import BackgroundClassifier, ProjectionHeads
from fbr_plugin.modules.memory_bank import MemoryBank
from fbr_plugin.modules.step_random import StepRandom

__all__ = [
    "BackgroundClassifier",
    "ClassAwareGate",
    "FBRLoss",
    "MemoryBank",
    "ProjectionHeads",
    "StepRandom",
    "gate_scores",
]
