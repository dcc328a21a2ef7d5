"""Pseudo labels from class score maps, and their reliability."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.errors import InputError


class ScoreMaps(NamedTuple):
    """The normalised score maps of a view and their entropy.

    Attributes:
        normalised: [B, 1+C, h, w] in [0, 1], background first; maps of absent classes are 0.
        entropy: [B, h, w] entropy in nats of the softmax over the background and the classes of the image.
    """

    normalised: Tensor
    entropy: Tensor


def check_scores(scores: Tensor, labels: Tensor) -> None:
    """Raise `ValueError` unless `scores` is [B, C or 1+C, h, w] for `labels` [B, C]."""
    batch, classes = labels.shape
    if scores.dim() != 4 or len(scores) != batch or scores.shape[1] not in (classes, classes + 1):
        raise InputError(
            f"scores must be logits [{batch}, {classes + 1}, h, w] with the background first, or class "
            f"activation maps [{batch}, {classes}, h, w], for labels [{batch}, {classes}]; "
            f"got {tuple(scores.shape)}"
        )


def resize(maps: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Resize maps [B, K, h, w] bilinearly to a height and width; maps of that size are returned unchanged."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)


def min_max(maps: Tensor) -> Tensor:
    """Scale each map of [..., h, w] to [0, 1]; a constant map becomes 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    extent = high - low
    return (maps - low) / extent.masked_fill(extent <= 0, 1)


def max_normalise(maps: Tensor) -> Tensor:
    """Divide each map of [..., h, w], at least 0, by its maximum; a map of zeros stays."""
    return maps / maps.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def cams_to_seeds(scores: Tensor, labels: Tensor) -> Tensor:
    """Turn class activation maps into seeds by dividing every map by its maximum.

    Args:
        scores: n activation maps of each class [B, n*C, h, w], before or after ReLU. With n > 1, the scaled
            maps of a class are averaged, and their mean is scaled again.
        labels: [B, C] image labels in {0, 1}.

    Returns:
        [B, C, h, w] in [0, 1], 0 for classes that the image lacks.
    """
    parts = scores.relu().unflatten(1, (-1, labels.shape[1])) * (labels[:, None, :, None, None] > 0)
    return max_normalise(max_normalise(parts).mean(1))


@torch.no_grad()
def normalise_scores(scores: Tensor, labels: Tensor, background_score: float = 0.1) -> ScoreMaps:
    """Mask score maps by the image labels, and normalise each to [0, 1].

    Absent classes are removed first (-inf before the softmax of logits, times `labels` for activation maps),
    since an absent class's noise, normalised to [0, 1], would win. A constant background is not normalised.

    Args:
        scores: logits [B, 1+C, h, w], background first, or class activation maps before ReLU [B, C, h, w].
        labels: [B, C] image labels in {0, 1}.
        background_score: the constant background score of activation maps.

    Raises:
        ValueError: shapes do not match.
    """
    check_scores(scores, labels)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    gate = torch.cat([torch.ones_like(labels[:, :1]), labels], 1)[..., None, None] > 0
    if scores.shape[1] == gate.shape[1]:
        logits = scores.masked_fill(~gate, -torch.inf)
        normalised = min_max(logits.softmax(1)) * gate
    else:
        cams = min_max(scores.relu() * gate[:, 1:])
        normalised = torch.cat([torch.full_like(cams[:, :1], background_score), cams], 1)
        logits = normalised.masked_fill(~gate, -torch.inf)
    log_probability = logits.log_softmax(1)
    entropy = -(log_probability.exp() * log_probability.masked_fill(~gate, 0)).sum(1)
    return ScoreMaps(normalised, entropy)


def logits_to_seeds(logits: Tensor, labels: Tensor) -> Tensor:
    """Turn logits into seeds: their softmax over the classes of the image, each map scaled to [0, 1].

    Args:
        logits: [B, 1+C, h, w], background first.
        labels: [B, C] image labels in {0, 1}.

    Returns:
        [B, C, h, w] in [0, 1], 0 for classes that the image lacks.
    """
    present = (labels > 0)[..., None, None]
    probability = logits.masked_fill(~F.pad(present, (0, 0, 0, 0, 1, 0), value=True), -torch.inf).softmax(1)
    return min_max(probability[:, 1:]) * present


@torch.no_grad()
def hard_pixels(
    maps: ScoreMaps,
    pseudo_labels: Tensor,
    *,
    confidence_quantile: float = 0.4,
    entropy_quantile: float = 0.25,
    score_floor: float = 0.05,
) -> Tensor:
    """Find the foreground pixels with unreliable pseudo labels, the queries of the contrasts.

    A pixel of pseudo label c is confident if its score exceeds element floor(n * `confidence_quantile`) of
    the n scores above `score_floor` of the pixels labelled c in its image, sorted ascending, or if its
    entropy is at most the image's `entropy_quantile`. Every other foreground pixel is hard.

    Args:
        maps: result of `normalise_scores`.
        pseudo_labels: [B, h, w] int64, 0 = background.
        confidence_quantile: in [0, 1).
        entropy_quantile: in [0, 1), over all pixels of the image.
        score_floor: lower bound of the scores that are sorted.

    Returns:
        [B, h, w] bool.
    """
    batch, channels = maps.normalised.shape[:2]
    labels = pseudo_labels.flatten(1)
    score = maps.normalised.flatten(2).gather(1, labels[:, None])[:, 0]
    # One sort per image serves all classes: by score, then stably by class, so that each class is a run.
    counted = score > score_floor
    key = torch.where(counted, labels, channels)
    order = score.argsort(1)
    order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    count = torch.zeros(batch, channels + 1, dtype=torch.int64, device=score.device)
    count.scatter_add_(1, key, torch.ones_like(key))
    start = count.cumsum(1) - count
    # float64: 0.6 * 5 must be 3, whatever the precision of the scores.
    position = start + (count.double() * confidence_quantile).long()
    threshold = score.gather(1, order).gather(1, position.clamp_max(labels.shape[1] - 1))
    threshold = threshold.masked_fill(count == 0, torch.inf).gather(1, labels)
    entropy = maps.entropy.flatten(1)
    confident = (score > threshold) | (entropy <= entropy.quantile(entropy_quantile, dim=1, keepdim=True))
    return ((labels > 0) & ~confident).view_as(pseudo_labels)


@torch.no_grad()
def background_target(scores: Tensor, labels: Tensor, threshold: float = 0.05) -> Tensor:
    """Pixels without a class of the image, where the sum of max-normalised activation maps is low.

    Args:
        scores: activation maps [B, C, h, w], or logits [B, 1+C, h, w] with foreground logits as such maps.
        labels: [B, C] image labels in {0, 1}.
        threshold: on the sum over classes of relu(map) / max(map).

    Returns:
        [B, h, w] float32, 1 where the pixel is background.
    """
    check_scores(scores, labels)
    cams = scores[:, -labels.shape[1] :].float().relu() * labels[..., None, None]
    peak = cams.amax((-2, -1), keepdim=True)
    return ((cams / peak.masked_fill(peak <= 0, 1)).sum(1) < threshold).float()
