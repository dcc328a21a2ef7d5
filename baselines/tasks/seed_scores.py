"""The metrics of a baseline's seeds, counted without files."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fbr_plugin.metrics import (
    CalibrationResult,
    CooccurrenceSweep,
    SeedSweep,
    ViewAgreement,
    false_positives,
)
from fbr_plugin.metrics.sweep import IGNORE
from fbr_plugin.stuff import StuffTable


class SeedScores(nn.Module):
    """Quality of seeds over a whole set, at the oracle and at the label-free background threshold.

    The oracle threshold is chosen with the masks, so it gives an upper bound. At the label-free threshold,
    the seeds of an image and of its mirror image agree best. Recall, precision and false positives are at the
    oracle threshold.

    Args:
        num_classes: number of foreground classes C.

    Attributes:
        cooccurrence: the false positives; None unless `count_stuff` was called with a table.
        calibration: another threshold, chosen with the masks of a few images; None for none.
    """

    cooccurrence: CooccurrenceSweep | None
    calibration: CalibrationResult | None

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        masked = min(num_classes, IGNORE - 1)  # more classes than masks can hold, as in ILSVRC, have boxes
        self.sweep = SeedSweep(masked)
        self.agreement = ViewAgreement(masked)
        self.cooccurrence = None
        self.calibration = None

    def count_stuff(self, stuff: StuffTable | None) -> None:
        """Count false positives by this stuff, or none."""
        self.cooccurrence = None if stuff is None else CooccurrenceSweep(stuff)

    def reset(self) -> None:
        """Forget all counts."""
        for metric in (self.sweep, self.agreement, self.cooccurrence):
            if metric is not None:
                metric.reset()

    def update(self, batch: dict[str, Any], seed: Tensor, plain: Tensor, mirrored: Tensor) -> None:
        """Count the seeds of a batch.

        Args:
            batch: with `mask` [B, H, W], `label` [B, C] and, for the false positives, `stuff` [B, H, W].
            seed: [B, C, H, W] in [0, 1].
            plain: [B, C, H, W] the seed of the image alone.
            mirrored: [B, C, H, W] the seed of the mirror image alone, flipped back.
        """
        self.sweep.update(seed, batch["mask"])
        self.agreement.update(plain, mirrored)
        if self.cooccurrence is not None and "stuff" in batch:
            self.cooccurrence.update(seed, batch["mask"], batch["stuff"], batch["label"])

    def compute(self) -> dict[str, float]:
        """The metrics by name, in percent except the thresholds."""
        sweep, label_free = self.sweep.compute(), self.agreement.compute().threshold
        figures = {
            "miou_oracle": sweep.oracle.miou,
            "threshold_oracle": sweep.oracle_threshold,
            "miou_label_free": sweep.at(label_free).miou,
            "threshold_label_free": label_free,
            "recall": sweep.oracle.recall,
            "precision": sweep.oracle.precision,
        }
        if self.calibration:
            figures |= {"miou_calibrated": sweep.at(self.calibration.threshold).miou}
            figures |= self.calibration.scores()
        if self.cooccurrence is not None and self.cooccurrence.update_called:
            found = self.cooccurrence.compute()
            index = found.thresholds.index(sweep.oracle_threshold)
            figures["fp_cooccurring"] = found.cooccurring[index]
            figures["fp_other"] = found.other[index]
        return figures

    def false_positives(self, class_names: Sequence[str]) -> list[str]:
        """The lines of a table of false positives by class and by name of the stuff; none without stuff."""
        if self.cooccurrence is None or not self.cooccurrence.update_called:
            return []
        found = self.cooccurrence.compute()
        index = found.thresholds.index(self.sweep.compute().oracle_threshold)
        return false_positives(found, self.cooccurrence.stuff, index, class_names)
