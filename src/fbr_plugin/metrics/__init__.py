"""Metrics over a whole set, streaming: every state is an integer histogram that ranks add up."""

from fbr_plugin.metrics.agreement import AgreementResult, ViewAgreement
from fbr_plugin.metrics.cooccurrence import CooccurrenceResult, CooccurrenceSweep
from fbr_plugin.metrics.segmentation import SeedSweep, SegmentationResult, SegmentationScore, SweepResult

__all__ = [
    "AgreementResult",
    "CooccurrenceResult",
    "CooccurrenceSweep",
    "SeedSweep",
    "SegmentationResult",
    "SegmentationScore",
    "SweepResult",
    "ViewAgreement",
]
