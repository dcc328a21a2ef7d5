"""False positives of seeds on the background that co-occurs with a class."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
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


class CooccurrenceResult(NamedTuple):
    """False positives at every background threshold, in percent of the background pixels concerned.

    Attributes:
        thresholds: the T background thresholds.
        own: share of a present class's own texture that is predicted as that class.
        other: share of all other background in the images with that class that is predicted as that class.
    """

    thresholds: tuple[float, ...]
    own: tuple[float, ...]
    other: tuple[float, ...]


class CooccurrenceSweep(Metric):
    """Counts background predicted as a class, on the texture that co-occurs with the class and elsewhere.

    Each image counts once for each of its classes. Texture c - 1 belongs to class c; textures from C on
    belong to none.

    Args:
        num_classes: number of foreground classes C.
        thresholds: background thresholds, ascending.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, thresholds: Sequence[float] = BACKGROUND_THRESHOLDS) -> None:
        super().__init__()
        self.num_classes = check_num_classes(num_classes)
        self.thresholds = check_thresholds(thresholds)
        shape = (2, len(self.thresholds) + 1)  # other background, own texture
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, seed: Tensor, target: Tensor, texture: Tensor, label: Tensor) -> None:
        """Count the background pixels of a batch.

        Args:
            seed: [B, C, H, W] foreground scores.
            target: [B, H, W] true classes.
            texture: [B, H, W] number of the texture at each pixel.
            label: [B, C] image labels in {0, 1}.
        """
        check_seed(seed, self.num_classes)
        plane = seed.shape[:-3] + seed.shape[-2:]
        expected = {"target": (target, plane), "texture": (texture, plane), "label": (label, seed.shape[:-2])}
        for name, (value, shape) in expected.items():
            if seed.ndim != 4 or value.shape != shape:
                raise InputError(
                    f"seed must be [B, C, H, W], target and texture [B, H, W], label [B, C]: got a seed of "
                    f"{tuple(seed.shape)} and a {name} of {tuple(value.shape)}"
                )
        best, bins = top_class_bins(seed, self.thresholds)
        index = torch.arange(self.num_classes, device=seed.device)[:, None, None]
        asked = (label > 0)[:, :, None, None] & (target == 0)[:, None]
        own = (texture[:, None] == index).long()
        class_bins = torch.where(best[:, None] == index, bins[:, None], 0)  # bin 0: predicted at no threshold
        self.counts += histogram(class_bins[asked], len(self.thresholds) + 1, own[asked], 2)

    def compute(self) -> CooccurrenceResult:
        """Return the false positives of the whole set at every threshold."""
        other, own = (100 * count_above(self.counts) / self.counts.sum(1, keepdim=True)).tolist()
        return CooccurrenceResult(self.thresholds, tuple(own), tuple(other))
