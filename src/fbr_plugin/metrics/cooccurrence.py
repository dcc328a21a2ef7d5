"""False positives of seeds on the stuff that co-occurs with a class."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError
from fbr_plugin.metrics.sweep import (
    BACKGROUND_THRESHOLDS,
    check_num_classes,
    check_seed,
    check_thresholds,
    count_above,
    histogram,
    top_class_bins,
)
from fbr_plugin.stuff import StuffTable


class CooccurrenceResult(NamedTuple):
    """False positives at every background threshold, in percent of the background pixels concerned.

    Attributes:
        thresholds: the T background thresholds.
        cooccurring: share of the stuff that co-occurs with a present class that is predicted as that class.
        other: share of all other background in the images with that class that is predicted as that class.
        by_stuff: [C, S, T] share of each stuff in the images of each class that is predicted as the class;
            NaN where there is none.
        other_by_class: [C, T] `other` of each class.
    """

    thresholds: tuple[float, ...]
    cooccurring: tuple[float, ...]
    other: tuple[float, ...]
    by_stuff: NDArray[np.float32]
    other_by_class: NDArray[np.float32]


class CooccurrenceSweep(Metric):
    """Counts background predicted as a class, on the stuff that co-occurs with the class and elsewhere.

    Each image counts once for each of its classes.

    Args:
        stuff: the stuff, and the C classes with which it co-occurs.
        thresholds: background thresholds, ascending.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, stuff: StuffTable, thresholds: Sequence[float] = BACKGROUND_THRESHOLDS) -> None:
        super().__init__()
        if stuff.cooccurring.ndim != 2 or stuff.cooccurring.shape[1] != len(stuff.names):
            raise InputError(
                f"cooccurring must be [C, S] for the {len(stuff.names)} names of stuff, got "
                f"{tuple(stuff.cooccurring.shape)}"
            )
        self.stuff = stuff
        self.num_classes = check_num_classes(len(stuff.cooccurring))
        self.thresholds = check_thresholds(thresholds)
        shape = (self.num_classes, 1 + len(stuff.names), len(self.thresholds) + 1)
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, seed: Tensor, target: Tensor, stuff: Tensor, label: Tensor) -> None:
        """Count the background pixels of a batch.

        Args:
            seed: [B, C, H, W] foreground scores.
            target: [B, H, W] true classes.
            stuff: [B, H, W] number of the stuff at each pixel, 0 = none, 1..S.
            label: [B, C] image labels in {0, 1}.
        """
        check_seed(seed, self.num_classes)
        plane = seed.shape[:-3] + seed.shape[-2:]
        expected = {"target": (target, plane), "stuff": (stuff, plane), "label": (label, seed.shape[:-2])}
        for name, (value, shape) in expected.items():
            if seed.ndim != 4 or value.shape != shape:
                raise InputError(
                    f"seed must be [B, C, H, W], target and stuff [B, H, W], label [B, C]: got a seed of "
                    f"{tuple(seed.shape)} and a {name} of {tuple(value.shape)}"
                )
        classes, kinds, bins = self.counts.shape
        if (wrong := (stuff < 0) | (stuff >= kinds)).any():
            raise InputError(
                f"stuff holds the value {int(stuff[wrong][0])}: it is 0 (none) to {kinds - 1}, as "
                f"{kinds - 1} kinds of stuff are named"
            )
        best, best_bins = top_class_bins(seed, self.thresholds)
        index = torch.arange(classes, device=seed.device)[:, None, None]
        asked = (label > 0)[:, :, None, None] & (target == 0)[:, None]
        # Bin 0: predicted at no threshold.
        class_bins = torch.where(best[:, None] == index, best_bins[:, None], 0)
        group = index * kinds + stuff[:, None]
        found = histogram(class_bins[asked], bins, group[asked], classes * kinds)
        self.counts += found.view_as(self.counts)

    def compute(self) -> CooccurrenceResult:
        """Return the false positives of the whole set at every threshold."""
        counts, own = self.counts.cpu(), F.pad(self.stuff.cooccurring, (1, 0))[..., None]
        other = counts.where(~own, 0)
        return CooccurrenceResult(
            self.thresholds,
            tuple(_shares(counts.where(own, 0).sum((0, 1))).tolist()),
            tuple(_shares(other.sum((0, 1))).tolist()),
            _shares(counts[:, 1:]).numpy(),
            _shares(other.sum(1)).numpy(),
        )


def false_positives(
    result: CooccurrenceResult, stuff: StuffTable, index: int, class_names: Sequence[str]
) -> list[str]:
    """The lines of a table of each class's false positives at a threshold, by name of the co-occurring stuff.

    Args:
        result: of a `CooccurrenceSweep`.
        stuff: that of the sweep.
        index: position of the threshold.
        class_names: the C classes.
    """
    wide = max(map(len, class_names))
    lines = [f"False positives in percent, threshold {result.thresholds[index]:g}"]
    for c, name in enumerate(class_names):
        kinds = zip(stuff.names, stuff.cooccurring[c], result.by_stuff[c, :, index], strict=True)
        parts = [f"{kind} {share:.1f}" for kind, own, share in kinds if own]
        parts.append(f"elsewhere {result.other_by_class[c, index]:.1f}")
        lines.append(f"{name:{wide}}  {', '.join(parts)}")
    return lines


def _shares(counts: Tensor) -> Tensor:
    """Turn histograms [..., T+1] of background pixels into the percentage [..., T] above each threshold."""
    return 100 * count_above(counts) / counts.sum(-1, keepdim=True)
