"""The counts of an image's pixels of which a page computes the IoU, at one threshold or at each."""

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.metrics.segmentation import SeedSweep, SegmentationScore, sweep_confusions
from fbr_plugin.postprocess.seeds import Seed

Counts = list[tuple[int, int, list[int], list[int]]]
"""For each class of an image, 0 for the background: its number, its true pixels, and at each threshold
those of them that are predicted, and all that are predicted where the truth is known. The last two hold the
differences from threshold to threshold, which are short."""


def mask_counts(score: SegmentationScore, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Counts:
    """The counts of a mask [H, W] with a true mask [H, W], at the one threshold that there is."""
    confusion = score.count(torch.from_numpy(labels), torch.from_numpy(truth))
    return _counts(confusion[..., None])


def seed_counts(sweep: SeedSweep, seed: Seed, truth: NDArray[np.uint8]) -> Counts:
    """The counts of a seed with a true mask [H, W]; the sweep adds them to its own."""
    before = sweep.counts.clone()
    sweep.update(torch.from_numpy(seed.scores), torch.from_numpy(truth), torch.from_numpy(seed.keys))
    return _counts(sweep_confusions(sweep.counts - before))


def _counts(confusion: torch.Tensor) -> Counts:
    """The counts of confusion matrices [1+C, 2+C, T]."""
    table = confusion.numpy()
    hits, predicted = np.einsum("kkt->kt", table[:, :-1]), table[:, :-1].sum(0)
    truth = table[..., 0].sum(1)
    return [
        (
            int(index),
            int(truth[index]),
            np.diff(hits[index], prepend=0).tolist(),
            np.diff(predicted[index], prepend=0).tolist(),
        )
        for index in np.flatnonzero(truth + predicted.max(1))
    ]
