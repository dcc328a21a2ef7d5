"""Streaming metrics over a whole set.

Every state but that of instances is an integer histogram, summed over the ranks.
"""

from fbr_plugin.metrics.agreement import AgreementResult, ViewAgreement
from fbr_plugin.metrics.calibration import Calibration, CalibrationResult
from fbr_plugin.metrics.centre_box import CentreBox, CentreBoxResult
from fbr_plugin.metrics.coco_ap import COCOInstanceAP
from fbr_plugin.metrics.cooccurrence import CooccurrenceResult, CooccurrenceSweep, false_positives
from fbr_plugin.metrics.instances import InstanceAP, InstanceResult, without_ignored
from fbr_plugin.metrics.localization import (
    BoxAccuracy,
    BoxResult,
    BoxSweep,
    BoxSweepResult,
    FixedBoxResult,
    true_class_ranks,
)
from fbr_plugin.metrics.pixels import PixelResult, PixelSweep
from fbr_plugin.metrics.segmentation import SeedSweep, SegmentationResult, SegmentationScore, SweepResult

__all__ = [
    "AgreementResult",
    "BoxAccuracy",
    "BoxResult",
    "BoxSweep",
    "BoxSweepResult",
    "COCOInstanceAP",
    "Calibration",
    "CalibrationResult",
    "CentreBox",
    "CentreBoxResult",
    "CooccurrenceResult",
    "CooccurrenceSweep",
    "FixedBoxResult",
    "InstanceAP",
    "InstanceResult",
    "PixelResult",
    "PixelSweep",
    "SeedSweep",
    "SegmentationResult",
    "SegmentationScore",
    "SweepResult",
    "ViewAgreement",
    "false_positives",
    "true_class_ranks",
    "without_ignored",
]
