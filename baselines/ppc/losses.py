"""PPC's pixel-to-prototype contrasts, across two views and within each.

[PPC] Du et al., Weakly Supervised Semantic Segmentation by Pixel-to-Prototype Contrast (CVPR 2022, arXiv
2110.07110), usr922/wseg at e96b961.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fbr_plugin.errors import InputError
from fbr_plugin.functional import class_prototypes, normalise_scores


@dataclass(frozen=True)
class ContrastConfig:
    """Settings of PPC's contrasts. The defaults are the published values for PPC on SEAM.

    Args:
        background_score: constant score of the background; 0.1 on EPS.
        topk_divisor: prototypes average the top h*w/topk_divisor positions of a class; 16 on EPS.
        background_pixels: whether background pixels count in the contrasts across views. In the released
            code of FBR they do not, but the mean is still over all pixels.

    Raises:
        ValueError: a value is out of range.
    """

    background_score: float = 0.2
    topk_divisor: int = 8
    background_pixels: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.background_score <= 1:
            raise InputError(f"background_score must lie in [0, 1], got {self.background_score}")
        if self.topk_divisor < 1:
            raise InputError(f"topk_divisor must be at least 1, got {self.topk_divisor}")


class ContrastView(NamedTuple):
    """One view's inputs to the contrasts: N = B*h*w pixels, in the same order in both views.

    Attributes:
        features: [N, D] of unit length, with gradient.
        labels: [N] int64 pseudo labels, 0 = background.
        prototypes: [1+C, D] of unit length, the background's first; rows of absent classes are 0.
        present: [1+C] bool, classes that occur among the pseudo labels.
    """

    features: Tensor
    labels: Tensor
    prototypes: Tensor
    present: Tensor


def contrast_view(
    projection: Tensor,
    scores: Tensor,
    label: Tensor,
    config: ContrastConfig = ContrastConfig(),
    absent_classes: bool = False,
) -> ContrastView:
    """Pseudo labels and prototypes of one view.

    A class's prototype is the score-weighted mean of its best positions in the batch. The background has a
    constant score, and its prototype is the mean over all background pixels. (In the released code, where
    its scores tie, it comes from arbitrary pixels.)

    Args:
        projection: [B, D, h, w], with gradient.
        scores: [B, C, h, w] refined CAMs.
        label: [B, C] image labels in {0, 1}.
        config: see `ContrastConfig`.
        absent_classes: as in the released code, normalise the maps of all classes, also where an image lacks
            the class, and make prototypes of all. Otherwise such maps are removed first, and a class without
            pixels has no prototype.
    """
    counted = torch.ones_like(label) if absent_classes else label
    normalised = normalise_scores(scores, counted, config.background_score).normalised
    own = torch.cat([torch.ones_like(label[:, :1]), label], 1)[:, :, None, None]
    labels = (normalised * own).argmax(1)
    topk = max(1, labels[0].numel() // config.topk_divisor)
    existing = torch.arange(normalised.shape[1], device=labels.device) if absent_classes else labels
    foreground = class_prototypes(projection.detach(), normalised, existing, topk)
    rows = projection.permute(0, 2, 3, 1).flatten(0, 2)
    background = labels.flatten() == 0
    total = background.to(rows.dtype) @ rows.detach()
    return ContrastView(
        features=normalize(rows, dim=1),
        labels=labels.flatten(),
        prototypes=normalize(torch.cat([total[None], foreground.vectors]), dim=1),
        present=torch.cat([background.any()[None], foreground.present]),
    )


def prototype_contrast(
    features: Tensor,
    labels: Tensor,
    prototypes: Tensor,
    present: Tensor,
    temperature: float = 0.1,
    background_pixels: bool = True,
) -> Tensor:
    """Contrast each pixel's prototype with those of all classes; pixels without a prototype are left out.

    Args:
        features: [N, D] of unit length, with gradient.
        labels: [N] int64.
        prototypes: [1+C, D] of unit length.
        present: [1+C] bool, which prototypes exist.
        temperature: tau.
        background_pixels: whether the loss of pixels labelled background counts.

    Returns:
        0-d mean over the pixels, including those that do not count.
    """
    logits = features @ prototypes.t() / temperature
    logits = logits.masked_fill(~present, torch.finfo(logits.dtype).min)
    losses = logits.logsumexp(1) - logits.gather(1, labels[:, None])[:, 0]
    taken = present[labels]
    counted = taken if background_pixels else taken & (labels > 0)
    return losses.masked_fill(~counted, 0).sum() / taken.sum().clamp_min(1)


def cross_view_contrast(
    first: ContrastView, second: ContrastView, background_pixels: bool = True
) -> tuple[Tensor, Tensor]:
    """PPC's contrasts across the views, each a mean over the views.

    Args:
        first: a view.
        second: the other view.
        background_pixels: whether pixels labelled background count.

    Returns:
        Cross-prototype, with the other view's prototypes, and cross-pseudo-label, with the other view's
        labels and the view's own prototypes; 0-d.
    """
    pairs = ((first, second), (second, first))
    contrast = partial(prototype_contrast, background_pixels=background_pixels)
    by_prototype = [
        contrast(own.features, own.labels, other.prototypes, other.present) for own, other in pairs
    ]
    by_label = [contrast(own.features, other.labels, own.prototypes, own.present) for own, other in pairs]
    return (by_prototype[0] + by_prototype[1]) / 2, (by_label[0] + by_label[1]) / 2


@torch.no_grad()
def semi_hard_prototypes(similarity: Tensor, present: Tensor) -> Tensor:
    """Choose each pixel's negatives by their rank in similarity: of 21 prototypes the 4th to 13th.

    Of n prototypes, the first round(3n / 21), at least 1, are skipped, and those up to rank round(13n / 21)
    are used, at least 1: the 2nd to 4th of 6, the 13th to 50th of 81. A pixel's own prototype is ranked like
    any other, and is mostly the first.

    Args:
        similarity: [N, 1+C].
        present: [1+C] bool.

    Returns:
        [N, 1+C] bool.
    """
    order = similarity.masked_fill(~present, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1)
    count = present.sum()
    first = (3 * count / 21).round().clamp_min(1)
    last = torch.maximum((13 * count / 21).round(), first + 1)
    return (rank >= first) & (rank < last) & present


@torch.no_grad()
def hard_pixel_weights(similarity: Tensor, labels: Tensor, num_labels: int, noise: Tensor) -> Tensor:
    """How often hard pixel sampling chooses each pixel: 0, 1 or 2 times.

    Of the n pixels of a label, n//2 are chosen at random (those with the least noise), and n//2 among the 60%
    with the lowest similarity: the highest of these, so that the lowest tenth is skipped.

    Args:
        similarity: [N] of each pixel and its prototype.
        labels: [N] int64.
        num_labels: labels are below this.
        noise: [N] uniform random numbers.

    Returns:
        [N], in the type of `similarity`.
    """
    count = torch.zeros(num_labels, dtype=torch.int64, device=labels.device)
    count.scatter_add_(0, labels, torch.ones_like(labels))
    half, lowest = (count // 2)[labels], (3 * count // 5)[labels]
    rank = _rank_within(similarity, labels, count)
    drawn = _rank_within(noise, labels, count) < half
    hard = (rank >= lowest - half) & (rank < lowest)
    return drawn.to(similarity.dtype) + hard


def intra_view_contrast(view: ContrastView, noise: Tensor, temperature: float = 0.1) -> Tensor:
    """PPC's contrast within a view: hard pixels with their prototype against semi-hard prototypes.

    Args:
        view: result of `contrast_view`.
        noise: [N] uniform random numbers in [0, 1) for `hard_pixel_weights`.
        temperature: tau.

    Returns:
        0-d mean over the sampled pixels of a label, then over the labels with at least 2 pixels.
    """
    similarity = view.features @ view.prototypes.t()
    own = similarity.gather(1, view.labels[:, None])
    negatives = semi_hard_prototypes(similarity, view.present)
    others = (similarity / temperature).masked_fill(~negatives, torch.finfo(similarity.dtype).min)
    losses = torch.cat([own / temperature, others], 1).logsumexp(1) - own[:, 0] / temperature
    weights = hard_pixel_weights(own.detach()[:, 0], view.labels, len(view.present), noise)
    both = torch.stack([losses * weights, weights])
    sums, totals = losses.new_zeros(2, len(view.present)).index_add(1, view.labels, both).unbind()
    return (sums / totals.clamp_min(1)).sum() / (totals > 0).sum().clamp_min(1)


def _rank_within(values: Tensor, labels: Tensor, count: Tensor) -> Tensor:
    """Rank of each value [N], from 0, among the values of its label in ascending order."""
    order = values.argsort(stable=True)
    order = order[labels[order].argsort(stable=True)]
    place = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[labels[order]]
    return torch.empty_like(order).scatter(0, order, place)
