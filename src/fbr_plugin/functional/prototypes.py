"""Class prototypes: score-weighted means of a class's best positions in the batch."""

from typing import NamedTuple

import torch
from torch import Tensor

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
def class_prototypes(features: Tensor, normalised: Tensor, pseudo_labels: Tensor, topk: int) -> Prototypes:
    """Average the features at each class's `topk` best positions in the batch, weighted by the score.

    Args:
        features: [B, D, h, w] foreground projection.
        normalised: [B, 1+C, h, w] scores in [0, 1], background first.
        pseudo_labels: [B, h, w] int64, 0 = background.
        topk: number of positions per class, at least 1; at most B*h*w are used.

    Raises:
        ValueError: `topk` is below 1.
    """
    if topk < 1:
        raise InputError(f"topk must be at least 1, got {topk}")
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    scores = normalised[:, 1:].transpose(0, 1).flatten(1).to(rows.dtype)
    weight, index = scores.topk(min(topk, scores.shape[1]), dim=1)
    total = weight.sum(1, keepdim=True)
    vectors = torch.einsum("ck,ckd->cd", weight / total.masked_fill(total <= 0, 1), rows[index])
    classes = torch.arange(1, normalised.shape[1], device=rows.device)
    present = (pseudo_labels.flatten() == classes[:, None]).any(1)
    return Prototypes(vectors * present[:, None], present)
