"""The distribution of scores, and the monotone map from one distribution to another.

This is not part of the published method.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.functional.contrast import readable

BINS = 2048
PRIOR = 1e-6  # added to the share of every bin, so that the map rises everywhere


@torch.no_grad()
def score_histogram(scores: Tensor) -> Tensor:
    """Count positive scores in bins that are even in the square root, so that low scores are told apart.

    Args:
        scores: in [0, 1], of any shape; zeros do not count.

    Returns:
        [BINS] counts, float32.
    """
    bins = (scores.float().clamp(0, 1).sqrt() * BINS).long().clamp_max(BINS - 1)
    chosen = torch.where(scores > 0, bins, BINS).flatten()
    # Unlike `bincount`, this does not wait for the GPU.
    return chosen.new_zeros(BINS + 1).scatter_add_(0, chosen, torch.ones_like(chosen))[:BINS].float()


@torch.no_grad()
def match_distribution(scores: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Map scores monotonically so that those distributed as `source` are distributed as `target`.

    A score becomes the target's quantile of its rank in the source. 0 and 1 stay.

    Args:
        scores: in [0, 1], of any shape.
        source: [BINS] histogram of `score_histogram`, of any positive total; zeros give the identity.
        target: the same of the distribution wanted.

    Returns:
        In the shape and type of scores.
    """
    ranks, wanted = (_cumulative(histogram) for histogram in (source, target))
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64, device=scores.device)
    right = torch.searchsorted(wanted, ranks).clamp(1, BINS)
    left = right - 1
    share = ((ranks - wanted[left]) / (wanted[right] - wanted[left])).clamp(0, 1)
    table = torch.lerp(edges[left], edges[right], share).float()  # square roots of the mapped bin edges
    positive = scores > 0  # few: the maps of absent classes are 0
    few = readable(scores)
    chosen = scores[positive] if few else scores.where(positive, 0)
    position = chosen.float().clamp_max(1).sqrt() * BINS
    lower = position.long().clamp_max(BINS - 1)
    mapped = torch.lerp(table[lower], table[lower + 1], position - lower).square().to(scores.dtype)
    return scores.masked_scatter(positive, mapped) if few else torch.where(positive, mapped, scores)


def _cumulative(histogram: Tensor) -> Tensor:
    """The share of scores below every bin's edge: [BINS + 1], rising from 0 to 1."""
    shares = histogram.double() / histogram.double().sum().clamp_min(torch.finfo(torch.float64).tiny) + PRIOR
    cumulative = shares.cumsum(0)
    return F.pad(cumulative / cumulative[-1], (1, 0))
