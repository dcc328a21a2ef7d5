"""Class prototypes: score-weighted means of a class's best positions in the batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from fbr_plugin.distributed import BatchShare
from fbr_plugin.errors import InputError


class Prototypes(NamedTuple):
    """Prototypes of the foreground classes.

    Attributes:
        vectors: [C, D]; rows of absent classes are 0.
        present: [C] bool, whether a pixel of the batch has the class as its pseudo label.
    """

    vectors: Tensor
    present: Tensor


@torch.no_grad()
def class_prototypes(
    features: Tensor,
    normalised: Tensor,
    pseudo_labels: Tensor,
    topk: int,
    share: BatchShare = BatchShare(),
) -> Prototypes:
    """Average the features at each class's `topk` best positions in the batch, weighted by the score.

    Where more positions have the lowest of these scores than there is room for, all of them share the room
    equally, so that the prototypes do not depend on the order of the images.

    Args:
        features: [B, D, h, w] foreground projection.
        normalised: [B, 1+C, h, w] scores in [0, 1], background first.
        pseudo_labels: [B, h, w] int64, 0 = background.
        topk: number of positions per class, at least 1; at most B*h*w are used.
        share: of the batch that the images are.

    Raises:
        ValueError: `topk` is below 1.
    """
    if topk < 1:
        raise InputError(f"topk must be at least 1, got {topk}")
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    scores = normalised[:, 1:].transpose(0, 1).flatten(1).to(rows.dtype)
    weight, index = scores.topk(min(topk, scores.shape[1]), dim=1)
    best = share.gather(weight[None]).transpose(0, 1).flatten(1)
    if share.processes > 1:
        best = best.topk(min(topk, best.shape[1]), dim=1).values
    lowest, total = best[:, -1:], best.sum(1, keepdim=True)
    classes = torch.arange(1, normalised.shape[1], device=rows.device)
    labelled = (pseudo_labels.flatten() == classes[:, None]).sum(1)
    reached, labelled = share.total(torch.stack([(scores >= lowest).sum(1), labelled]))
    crowded = (reached > best.shape[1])[:, None]
    total = total.masked_fill(total <= 0, 1)
    taken = weight.masked_fill((weight < lowest) | (crowded & (weight == lowest)), 0)
    above = (best > lowest).sum(1)
    room = lowest / total * ((best.shape[1] - above) / (reached - above))[:, None]
    level = ((scores == lowest) & crowded).to(rows.dtype)
    vectors = torch.einsum("ck,ckd->cd", taken / total, rows[index]) + room * (level @ rows)
    present = labelled > 0
    return Prototypes(share.total(vectors) * present[:, None], present)
