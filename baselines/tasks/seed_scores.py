"""The metrics of a baseline's seeds, counted without files."""

from typing import Any

from torch import Tensor, nn

from fbr_plugin.metrics import CalibrationResult, CooccurrenceSweep, SeedSweep, ViewAgreement


class SeedScores(nn.Module):
    """Quality of seeds over a whole set, at the oracle and at the label-free background threshold.

    The oracle threshold is chosen with the masks, so it gives an upper bound. At the label-free threshold,
    the seeds of an image and of its mirror image agree best. Recall, precision and false positives are at the
    oracle threshold.

    Args:
        num_classes: number of foreground classes C.

    Attributes:
        calibration: another threshold, chosen with the masks of a few images; None for none.
    """

    calibration: CalibrationResult | None

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.sweep = SeedSweep(num_classes)
        self.agreement = ViewAgreement(num_classes)
        self.cooccurrence = CooccurrenceSweep(num_classes)
        self.calibration = None

    def reset(self) -> None:
        """Forget all counts."""
        for metric in (self.sweep, self.agreement, self.cooccurrence):
            metric.reset()

    def update(self, batch: dict[str, Any], seed: Tensor, plain: Tensor, mirrored: Tensor) -> None:
        """Count the seeds of a batch.

        Args:
            batch: with `mask` [B, H, W], `label` [B, C] and, for the false positives, `texture` [B, H, W].
            seed: [B, C, H, W] in [0, 1].
            plain: [B, C, H, W] the seed of the image alone.
            mirrored: [B, C, H, W] the seed of the mirror image alone, flipped back.
        """
        self.sweep.update(seed, batch["mask"])
        self.agreement.update(plain, mirrored)
        if "texture" in batch:
            self.cooccurrence.update(seed, batch["mask"], batch["texture"], batch["label"])

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
        if self.cooccurrence.update_called:
            false_positives = self.cooccurrence.compute()
            index = false_positives.thresholds.index(sweep.oracle_threshold)
            figures["fp_cooccurring"] = false_positives.own[index]
            figures["fp_other"] = false_positives.other[index]
        return figures
