"""VOC's average precision and the average best overlap of instance masks over a whole set."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin.errors import InputError
from fbr_plugin.instances import Instances, check_pairs

AP_IOUS = (0.25, 0.5, 0.7, 0.75)
"""The overlaps at which published tables report AP."""

VOLUME_IOUS = tuple(step / 10 for step in range(1, 10))
"""The overlaps over which AP^r_vol is the mean."""

_IOUS = tuple(sorted({*AP_IOUS, *VOLUME_IOUS}))
_WRONG, _RIGHT, _NEITHER = 0, 1, 2
_AT_ONCE = 2**25  # numbers that a matrix product takes: 128 MB
_EXACT = 2**24  # largest count that a sum in single precision is sure to hold


class InstanceResult(NamedTuple):
    """Quality of the instances of a set, in percent; nan if there is no true instance.

    Attributes:
        ap: mean over the classes of the AP at each overlap of `AP_IOUS`.
        ap_volume: AP^r_vol, the mean of the AP over the overlaps of `VOLUME_IOUS`, and over the classes.
        abo: average best overlap: the best IoU of each true instance with a prediction of its class, averaged
            over the instances of a class, then over the classes.
        class_ap: `ap` of each class; nan for a class without true instances.
        class_abo: `abo` of each class; nan for a class without true instances.
        counts: number of true instances of each class, without crowds.
    """

    ap: tuple[float, ...]
    ap_volume: float
    abo: float
    class_ap: tuple[tuple[float, ...], ...]
    class_abo: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def mean_ap(self) -> float:
        """Mean of `ap` over the overlaps."""
        return sum(self.ap) / len(self.ap)

    @property
    def absent(self) -> tuple[int, ...]:
        """The classes without true instances, which are left out of all means with all that is predicted."""
        return tuple(number for number, count in enumerate(self.counts, start=1) if not count)

    def scores(self) -> dict[str, float]:
        """The figures by name: ap_25, ap_50, ap_70, ap_75, ap_mean, ap_volume, abo."""
        named = {f"ap_{round(100 * iou)}": value for iou, value in zip(AP_IOUS, self.ap, strict=True)}
        return {**named, "ap_mean": self.mean_ap, "ap_volume": self.ap_volume, "abo": self.abo}


class InstanceAP(Metric):
    """VOC's average precision of instance masks, and their average best overlap.

    Each prediction belongs to the true mask of its class and image with which it has the largest IoU. It is
    right if that IoU reaches a threshold and no prediction of a higher score is right for that mask; any
    other is wrong. AP is the area under the envelope of precision over recall, not the mean of 11 points of
    2007. This is the AP of `eval_instance_segmentation_voc` of chainercv 0.13, by which IRN is evaluated.

    - Of predictions with equal scores the right ones are spread evenly, so that AP depends on no order;
      chainercv takes them as its sort leaves them. IRN gives the best instance of every image the score 1.
    - A prediction that is not right, and has at least that share of its pixels in a crowd of its class, is
      neither right nor wrong, as in COCO.
    - Ignored pixels count neither in intersections nor in unions; see `without_ignored`.
    - An empty predicted mask is wrong.

    Each process keeps the score and the outcome of every prediction, and the best IoU of every true
    instance. The result does not depend on which process had which image.

    Args:
        num_classes: number of classes C.
    """

    full_state_update = False
    predicted: list[Tensor]
    true: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise InputError(f"num_classes must be 1 or more, got {num_classes}")
        self.num_classes = num_classes
        # One axis and the default type, like the empty state that torchmetrics gathers from an idle process.
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")

    def update(self, preds: Sequence[Instances], target: Sequence[Instances]) -> None:
        """Match the predictions of some images.

        Args:
            preds: `masks`, `labels` and `scores` of each image.
            target: `masks` and `labels` of each image, and optionally `iscrowd` and `ignore`.
        """
        check_pairs(preds, target, self.num_classes)
        for pair in zip(preds, target, strict=True):
            pred, truth = without_ignored(*pair)
            outcomes, best = match(pred, truth)
            labels = truth["labels"][~_crowds(truth)]
            self._keep(self.predicted, pred["labels"], pred["scores"], *outcomes.T)
            self._keep(self.true, labels, best)

    def _keep(self, state: list[Tensor], *columns: Tensor) -> None:
        """Add a row for each instance, as one axis."""
        state.append(torch.stack([column.to(self.device, torch.float32) for column in columns], 1).flatten())

    def compute(self) -> InstanceResult:
        """Return the figures of the whole set."""
        predicted, true = _rows(self.predicted, 2 + len(_IOUS)), _rows(self.true, 2)
        classes = range(1, self.num_classes + 1)
        best = [np.sort(true[true[:, 0] == number, 1]) for number in classes]  # a sum of any order is equal
        ap = np.full((self.num_classes, len(_IOUS)), math.nan)
        for number in classes:
            if count := len(best[number - 1]):
                own = predicted[predicted[:, 0] == number]
                ap[number - 1] = 100 * average_precision(own[:, 1], own[:, 2:], count)
        abo = np.array([100 * each.mean() if len(each) else math.nan for each in best])
        mean, mean_abo = (torch.from_numpy(each).nanmean(0) for each in (ap, abo))
        reported, volume = ([_IOUS.index(iou) for iou in ious] for ious in (AP_IOUS, VOLUME_IOUS))
        return InstanceResult(
            ap=tuple(mean[reported].tolist()),
            ap_volume=mean[volume].mean().item(),
            abo=mean_abo.item(),
            class_ap=tuple(map(tuple, ap[:, reported].tolist())),
            class_abo=tuple(abo.tolist()),
            counts=tuple(map(len, best)),
        )


def without_ignored(pred: Instances, truth: Instances) -> tuple[Instances, Instances]:
    """The instances of an image without the pixels that its truth ignores.

    Predictions of which no pixel is left are dropped, as are true instances without pixels. A predicted mask
    that was empty before is kept.
    """
    ignore = truth.get("ignore")
    masks, true = pred["masks"], truth["masks"]
    if ignore is not None:
        masks, true = masks & ~ignore, true & ~ignore
    kept = masks.flatten(1).any(1) | ~pred["masks"].flatten(1).any(1)
    seen = true.flatten(1).any(1)
    return (
        Instances(masks=masks[kept], labels=pred["labels"][kept], scores=pred["scores"][kept]),
        Instances(masks=true[seen], labels=truth["labels"][seen], iscrowd=_crowds(truth)[seen]),
    )


def match(pred: Instances, truth: Instances) -> tuple[Tensor, Tensor]:
    """Match the P predictions of an image to its true instances.

    Returns:
        outcomes: [P, T] int64, for each overlap: 0 = wrong, 1 = right, 2 = neither.
        best: [G] float64 best IoU of each true instance but crowds with a prediction of its class.
    """
    shared = shared_pixels(pred["masks"], truth["masks"]).cpu()
    area, true_area = (each["masks"].flatten(1).sum(1).cpu() for each in (pred, truth))
    labels, true_labels, crowd = (each.cpu() for each in (pred["labels"], truth["labels"], _crowds(truth)))
    shared *= labels[:, None] == true_labels
    iou = (shared / (area[:, None] + true_area - shared).clamp(min=1).double())[:, ~crowd]
    inside = F.pad((shared / area[:, None].clamp(min=1).double())[:, crowd], (0, 1)).amax(1)
    padded = F.pad(iou, (0, 1, 0, 1))  # a last row and column, for images without any
    overlap, owner = padded[:-1].max(1)
    ious, number = torch.tensor(_IOUS, dtype=torch.float64), len(labels)
    reaches = overlap[:, None] >= ious
    rank = pred["scores"].cpu().argsort(descending=True, stable=True).argsort()
    turn = rank[:, None].where(reaches, number)
    owners = owner[:, None].expand_as(turn)
    first = turn.new_full((iou.shape[1] + 1, len(ious)), number).scatter_reduce(0, owners, turn, "amin")
    right = reaches & (turn == first[owner])
    neither = ~right & (inside[:, None] >= ious)
    outcomes = torch.full(right.shape, _WRONG).masked_fill(right, _RIGHT).masked_fill(neither, _NEITHER)
    return outcomes, padded[:, :-1].amax(0)


def shared_pixels(first: Tensor, second: Tensor) -> Tensor:
    """The pixels that masks share, by matrix products of bounded size.

    Args:
        first: [N, H, W] bool.
        second: [M, H, W] bool.

    Returns:
        [N, M] int64 counts, exact for images of any size.
    """
    one, other = first.flatten(1), second.flatten(1)
    step = max(1, min(_EXACT, _AT_ONCE // max(1, len(one) + len(other))))
    shared = torch.zeros((len(one), len(other)), dtype=torch.int64, device=first.device)
    with torch.autocast(first.device.type, enabled=False):  # half precision would round the counts
        for a, b in zip(one.split(step, 1), other.split(step, 1), strict=True):
            shared += (a.float() @ b.float().T).long()
    return shared


def average_precision(
    scores: NDArray[np.float64], outcomes: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """The area under the envelope of precision over recall, in [0, 1].

    Args:
        scores: [P] of the predictions of a class; of equal ones, the right ones are spread evenly.
        outcomes: [P, T] 0 = wrong, 1 = right, 2 = neither.
        count: number of true instances.

    Returns:
        [T] average precisions; 0 without predictions.
    """
    order = np.argsort(-scores)
    last = np.flatnonzero(np.diff(scores[order], append=math.nan))  # of each run of equal scores
    area = np.zeros(outcomes.shape[1])
    for index, column in enumerate(outcomes[order].T):
        right, counted = (column == _RIGHT).cumsum()[last], (column != _NEITHER).cumsum()[last]
        new, more = np.diff(right, prepend=0), np.diff(counted, prepend=0)
        run = np.repeat(np.arange(len(last)), new)  # of each right prediction
        level = np.arange(1, len(run) + 1)
        share = (level - (right - new)[run]) / new[run]
        precision = level / ((counted - more)[run] + share * more[run])
        area[index] = np.maximum.accumulate(precision[::-1]).sum() / count
    return area


def _crowds(truth: Instances) -> Tensor:
    """Which true instances are crowds: [N] bool; none unless the truth says so."""
    return truth["iscrowd"].bool() if "iscrowd" in truth else torch.zeros_like(truth["labels"]).bool()


def _rows(state: list[Tensor] | Tensor, width: int) -> NDArray[np.float64]:
    """The rows [n, width] of a state, which is one tensor after its synchronisation."""
    parts = [state] if isinstance(state, Tensor) else state
    return torch.cat([torch.zeros(0), *(part.cpu() for part in parts)]).view(-1, width).double().numpy()
