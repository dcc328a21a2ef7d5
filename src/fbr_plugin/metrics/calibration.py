"""A background threshold calibrated on the masks of a few images, with its expected loss by bootstrap."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fbr_plugin.distributed import all_gather_object
from fbr_plugin.errors import InputError
from fbr_plugin.metrics.segmentation import SeedSweep, sweep_confusions
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS

RESAMPLES = 1000
RESAMPLES_AT_ONCE = 50  # 200 MB for COCO's 80 classes


class CalibrationResult(NamedTuple):
    """A threshold chosen with the masks of a few images.

    Attributes:
        threshold: the background threshold of the best mIoU on these images.
        loss: the mIoU, in points, that it is expected to lose on the whole set against the oracle threshold.
        loss_std: standard deviation of that loss over draws of as many images.
        num_images: number of images.
    """

    threshold: float
    loss: float
    loss_std: float
    num_images: int

    def scores(self) -> dict[str, float]:
        """The figures by the names under which they are logged."""
        return {
            "threshold_calibrated": self.threshold,
            "loss_calibrated": self.loss,
            "loss_calibrated_std": self.loss_std,
        }


class Calibration:
    """Chooses a background threshold with the masks of a few images.

    Each image is counted apart from the others, once, whichever process has it and however often.

    Args:
        num_classes: number of foreground classes C.
        thresholds: background thresholds, ascending.
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float] = BACKGROUND_THRESHOLDS) -> None:
        self.sweep = SeedSweep(num_classes, thresholds)
        self.counts: dict[str, Tensor] = {}

    def update(self, name: str, seed: Tensor, target: Tensor, keys: Tensor | None = None) -> None:
        """Count the pixels of one image.

        Args:
            name: the image's id.
            seed: [C, H, W] foreground scores, or [M, H, W] with `keys`; see `SeedSweep.count`.
            target: [H, W] true classes, 255 where ignored.
            keys: [M] 0-based classes of the channels; None: all C.
        """
        confusions = sweep_confusions(self.sweep.count(seed, target, keys).cpu())
        truth, predicted = confusions.sum(1).T, confusions.sum(0)[:-1].T
        self.counts[name] = torch.stack([confusions.diagonal(), truth, predicted], -1)

    def compute(self) -> CalibrationResult:
        """Return the threshold, chosen with the images of all processes."""
        counts = {name: own for each in all_gather_object(self.counts) for name, own in each.items()}
        return calibrate([counts[name] for name in sorted(counts)], self.sweep.thresholds)


def calibrate(
    counts: Sequence[Tensor], thresholds: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> CalibrationResult:
    """Choose the threshold of the best mIoU, and estimate by bootstrap what it loses against the oracle's.

    The images stand for the whole set, and a resample of them for a draw of as many images: the threshold
    that is best on the resample is scored on all images, beside the one that is best there. To score on the
    images left out of the resample would be no more honest: so few images have a best threshold of their own,
    which fits their noise. docs/fidelity.md compares both estimates with the true loss.

    Args:
        counts: for each image [T, 1+C, 3] int64 pixels: of a class in truth and prediction, in truth, in the
            prediction. Images without a known pixel are left out.
        thresholds: the T background thresholds.
        resamples: number of resamples.
        seed: of the resamples.
    """
    known = [image for image in counts if image.any()]
    if len(known) < 2:
        raise InputError(
            f"a threshold cannot be calibrated on {len(known)} image(s) with a known pixel: give at least 2, "
            "better 20"
        )
    images = torch.stack(known).double()  # [n, T, 1+C, 3]
    miou = mean_iou(images.sum(0))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(known), (resamples, len(known)), generator=generator)
    weights = torch.zeros(resamples, len(known)).scatter_add_(1, drawn, torch.ones(drawn.shape)).double()
    chosen = [
        mean_iou(torch.einsum("rn,ntks->rtks", part, images)).argmax(1)
        for part in weights.split(RESAMPLES_AT_ONCE)
    ]
    losses = miou.max() - miou[torch.cat(chosen)]
    return CalibrationResult(
        thresholds[int(miou.argmax())], losses.mean().item(), losses.std().item(), len(known)
    )


def mean_iou(counts: Tensor) -> Tensor:
    """The mean intersection over union, in percent, over the classes that occur.

    Args:
        counts: [..., 1+C, 3] float64 pixels, as `calibrate` takes.
    """
    hit, truth, predicted = counts.unbind(-1)
    return (100 * hit / (truth + predicted - hit)).nanmean(-1)
