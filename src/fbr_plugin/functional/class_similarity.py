"""Similarity of pixels to each class, and to background that occurs in images without the class.

This is not part of the published method. All vectors have unit length, so that products are cosines.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.distributed import BatchShare
from fbr_plugin.functional.counter_random import Generator
from fbr_plugin.functional.kmeans import kmeans

EPSILON = 1e-12  # smallest squared length


class BackgroundClusters(NamedTuple):
    """Clusters of the background pixels of a training set.

    Attributes:
        centres: [M, L] of unit length; rows that are not used are 0.
        class_absent: [M, C] bool, whether the cluster has pixels from images without the class.
    """

    centres: Tensor
    class_absent: Tensor


class ClassSimilarity(NamedTuple):
    """Similarity of pixels to each class and to its class-absent clusters.

    Attributes:
        own: [B, C, h, w] cosine to the nearest prototype of the class; infinite for a class without one.
        class_absent: [B, C, h, w] cosine to the nearest class-absent cluster; -infinite if there is none.
    """

    own: Tensor
    class_absent: Tensor


@torch.no_grad()
def hypercolumns(levels: Sequence[Tensor], grid: Sequence[int]) -> Tensor:
    """Stack feature levels into one vector per grid cell, in which every level has the same length.

    Args:
        levels: maps [B, L_j, h_j, w_j]; a level is averaged over the cells of the grid.
        grid: h and w.

    Returns:
        [B, sum of L_j, h, w] of unit length, float32; values that are not finite count as 0.
    """
    sizes = [level.shape[1] for level in levels]
    last = levels[-1].is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    shape, device = (len(levels[0]), sum(sizes), *grid), levels[0].device
    stacked = torch.empty(shape, dtype=torch.float32, device=device, memory_format=form)
    parts = stacked.split(sizes, 1)
    with torch.autocast(levels[0].device.type, enabled=False):
        for part, level in zip(parts, levels, strict=True):
            part.copy_(_pooled(level.float(), grid)).nan_to_num_()
        squares = [part.square().sum(1, keepdim=True) for part in parts]
        active = torch.stack([square > EPSILON for square in squares]).sum(0)  # levels that are not 0 here
        for part, square in zip(parts, squares, strict=True):
            part.mul_((active * square).clamp_min(EPSILON).rsqrt())
    return stacked


def _pooled(level: Tensor, grid: Sequence[int]) -> Tensor:
    """Average a level [B, L, h, w] over the cells of a grid."""
    size = level.shape[-2:]
    if tuple(size) == tuple(grid):
        return level
    cell = [side // cells for side, cells in zip(size, grid, strict=True)]
    if all(side == cells * own for side, cells, own in zip(size, grid, cell, strict=True)):
        return F.avg_pool2d(level, cell)  # which takes half the time
    return F.adaptive_avg_pool2d(level, (grid[0], grid[1]))


@torch.no_grad()
def background_clusters(
    rows: Tensor,
    labels: Tensor,
    mask: Tensor,
    number: int,
    least: int = 2,
    generator: Generator | None = None,
) -> BackgroundClusters:
    """Cluster background pixels, and find the classes that are absent from the images of each cluster.

    Args:
        rows: [N, L] background pixels, of unit length.
        labels: [N, C] labels of the images that the rows come from.
        mask: [N] bool, the rows that take part.
        number: M, the number of clusters.
        least: how many pixels from images without a class make a cluster class-absent.
        generator: source of randomness.
    """
    clusters = kmeans(rows[None], mask[None], number, generator=generator)
    member = F.one_hot(clusters.assignments[0].clamp_min(0), number).float() * mask[:, None]
    lacking = member.T @ (labels <= 0).float()
    return BackgroundClusters(F.normalize(clusters.centroids[0], dim=-1), lacking >= least)


@torch.no_grad()
def class_similarity(pixels: Tensor, prototypes: Tensor, clusters: BackgroundClusters) -> ClassSimilarity:
    """Compare pixels with the prototypes of each class and with its class-absent clusters.

    Args:
        pixels: [B, L, h, w] of unit length.
        prototypes: [C, K, L] of unit length; rows of zeros do not take part.
        clusters: of the background.
    """
    used, number = prototypes.any(-1), len(clusters.centres)
    rows = torch.cat([prototypes.flatten(0, 1), clusters.centres])
    # Added in one operation with the product, because the maps of cosines are large.
    missing = torch.zeros_like(rows[:, :1]).masked_fill_(
        ~F.pad(used.flatten(), (0, number), value=True)[:, None], -torch.inf
    )
    with torch.autocast(pixels.device.type, enabled=False):
        cosines = torch.baddbmm(missing, rows.expand(len(pixels), -1, -1), pixels.flatten(2))
    to_prototypes, to_clusters = cosines.split([used.numel(), number], 1)
    own = to_prototypes.unflatten(1, used.shape).amax(2).masked_fill(~used.any(1)[:, None], torch.inf)
    others = torch.zeros_like(clusters.class_absent, dtype=rows.dtype)
    others.masked_fill_(~clusters.class_absent, -torch.inf)
    class_absent = torch.stack([(to_clusters + column[:, None]).amax(1) for column in others.T], 1)
    grid = pixels.shape[-2:]
    return ClassSimilarity(*(x.unflatten(-1, grid) for x in (own, class_absent)))


@torch.no_grad()
def background_similarity(
    class_absent: Tensor,
    scores: Tensor,
    labels: Tensor,
    quantile: float,
    sure: float = 0.05,
    share: BatchShare = BatchShare(),
) -> Tensor:
    """The typical similarity of a class's own background to its class-absent clusters.

    It is a quantile over the confident background pixels of the images that show the class.

    Args:
        class_absent: [B, C, h, w] of `ClassSimilarity`.
        scores: [B, C, h, w] in [0, 1].
        labels: [B, C] image labels.
        quantile: in [0, 1].
        sure: a pixel with a lower score counts as confident background of the class.
        share: of the batch that the images are.

    Returns:
        [C] cosines; nan for a class without such pixels.
    """
    background = (labels[..., None, None] > 0) & (scores < sure)
    values = share.gather(class_absent.masked_fill(~background, torch.nan))
    return values.transpose(0, 1).flatten(1).nanquantile(quantile, dim=1)


@torch.no_grad()
def gate(own: Tensor, class_absent: Tensor, typical: Tensor, temperature: float) -> Tensor:
    """Suppress a class where class-absent background explains a pixel better than the class does.

    (1 - sigmoid((f - r) / T) sigmoid((f - o) / T)) ** 2, with the cosines o to the nearest prototype of the
    class and f to its nearest class-absent cluster, and the similarity r of the class's background to these
    clusters. If a class's background never occurs without the class, no such cluster is near it, and the gate
    is 1.

    Args:
        own: [B, C, h, w] of `ClassSimilarity`.
        class_absent: [B, C, h, w] of `ClassSimilarity`.
        typical: [C], r of `background_similarity`; infinite for a class that is not to be gated.
        temperature: T.

    Returns:
        [B, C, h, w] in (0, 1].
    """
    background = torch.sigmoid((class_absent - typical[:, None, None]) / temperature)
    better = torch.sigmoid((class_absent - own) / temperature)
    return (1 - background * better).clamp_min(torch.finfo(better.dtype).eps).square()


def lower_scores(scores: Tensor, gate: Tensor, logits: bool = False) -> Tensor:
    """Multiply scores by a gate, or add its logarithm to the logits of the classes.

    Maps are lowered towards their lowest score, as a map whose background is not 0 would lose its contrast
    otherwise.

    Args:
        scores: maps [B, n*C, h, w] that are not negative, n of each class; or logits [B, 1+C, h, w].
        gate: [B, C, h, w] in (0, 1].
        logits: whether the scores are logits.
    """
    if logits:
        return torch.cat([scores[:, :1], scores[:, 1:] + gate.log()], 1)
    gate = gate.repeat(1, scores.shape[1] // gate.shape[1], 1, 1)
    scores = scores.to(torch.promote_types(scores.dtype, gate.dtype))
    return torch.lerp(scores.amin((-2, -1), keepdim=True), scores, gate.to(scores.dtype))


@torch.no_grad()
def lowered_classes(gate: Tensor, labels: Tensor) -> Tensor:
    """The class of its image that a gate lowers most at each pixel, where it lowers one by more than half.

    Args:
        gate: [B, C, h, w] in (0, 1].
        labels: [B, C] image labels.

    Returns:
        [B, h, w] int64, 0 where no class is lowered that much.
    """
    lowest, index = torch.where(labels[..., None, None] > 0, gate, 1.0).min(1)
    return torch.where(lowest < 0.5, index + 1, 0)
