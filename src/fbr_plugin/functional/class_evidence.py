"""What image labels know of a pixel: how near it is to a class, and to background that lives without it.

Ours, not part of the published method. All rows and maps are of unit length, so that products are cosines.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.functional.kmeans import kmeans

EPSILON = 1e-12  # least square of a length


class Words(NamedTuple):
    """The kinds of background of a set.

    Attributes:
        centres: [M, L] of unit length; rows that are not used are 0.
        foreign: [M, C] bool, whether a word is background that occurs without a class.
    """

    centres: Tensor
    foreign: Tensor


class Affinity(NamedTuple):
    """How near pixels are to each class and to its foreign background.

    Attributes:
        own: [B, C, h, w] cosine to the nearest prototype of the class; infinite for a class without any.
        foreign: [B, C, h, w] cosine to the nearest word foreign to the class; -infinite where there is none.
        word: [B, h, w] int64, the nearest word of all.
    """

    own: Tensor
    foreign: Tensor
    word: Tensor


@torch.no_grad()
def describe(levels: Sequence[Tensor], grid: Sequence[int]) -> Tensor:
    """Describe each pixel by all levels, each averaged over the cells of the grid and of equal length.

    Args:
        levels: maps [B, L_j, h_j, w_j].
        grid: h and w.

    Returns:
        [B, sum of L_j, h, w] of unit length, float32.
    """
    with torch.autocast(levels[0].device.type, enabled=False):
        maps = [_pooled(level.float(), grid) for level in levels]
        squares = [own.square().sum(1, keepdim=True) for own in maps]
        active = torch.stack([square > EPSILON for square in squares]).sum(0)  # levels that say something
        scaled = [
            own * (active * square).clamp_min(EPSILON).rsqrt()
            for own, square in zip(maps, squares, strict=True)
        ]
        return torch.cat(scaled, 1)


def _pooled(level: Tensor, grid: Sequence[int]) -> Tensor:
    height, width = grid
    return level if level.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(level, (height, width))


@torch.no_grad()
def background_words(
    rows: Tensor,
    labels: Tensor,
    mask: Tensor,
    number: int,
    least: int = 2,
    generator: torch.Generator | None = None,
) -> Words:
    """Cluster background pixels into words, each foreign to the classes that images of its pixels lack.

    Args:
        rows: [N, L] background pixels, of unit length.
        labels: [N, C] labels of the images they came from.
        mask: [N] bool, the rows that take part.
        number: M, words.
        least: pixels of images without a class that make a word foreign to it.
        generator: source of randomness.
    """
    clusters = kmeans(rows[None], mask[None], number, generator=generator)
    member = F.one_hot(clusters.assignments[0].clamp_min(0), number).float() * mask[:, None]
    lacking = member.T @ (labels <= 0).float()
    return Words(F.normalize(clusters.centroids[0], dim=-1), lacking >= least)


@torch.no_grad()
def affinity(pixels: Tensor, prototypes: Tensor, words: Words) -> Affinity:
    """Compare pixels with the prototypes of each class and with the background foreign to it.

    Args:
        pixels: [B, L, h, w] of unit length.
        prototypes: [C, K, L] of unit length; rows of zeros do not take part.
        words: the kinds of background.
    """
    used, number = prototypes.any(-1), len(words.centres)
    rows = torch.cat([prototypes.flatten(0, 1), words.centres])
    # Added in one operation with the product, as the maps of cosines are large.
    missing = torch.zeros_like(rows[:, :1]).masked_fill_(
        ~F.pad(used.flatten(), (0, number), value=True)[:, None], -torch.inf
    )
    with torch.autocast(pixels.device.type, enabled=False):
        cosines = torch.baddbmm(missing, rows.expand(len(pixels), -1, -1), pixels.flatten(2))
    to_prototypes, to_words = cosines.split([used.numel(), number], 1)
    own = to_prototypes.unflatten(1, used.shape).amax(2).masked_fill(~used.any(1)[:, None], torch.inf)
    others = torch.zeros_like(words.foreign, dtype=rows.dtype).masked_fill_(~words.foreign, -torch.inf)
    foreign = torch.stack([(to_words + column[:, None]).amax(1) for column in others.T], 1)
    grid = pixels.shape[-2:]
    return Affinity(*(x.unflatten(-1, grid) for x in (own, foreign, to_words.argmax(1))))


@torch.no_grad()
def reach(foreign: Tensor, scores: Tensor, labels: Tensor, quantile: float, sure: float = 0.05) -> Tensor:
    """How near foreign words come to background: a quantile over the sure background of the class's images.

    Args:
        foreign: [B, C, h, w] of `Affinity`.
        scores: [B, C, h, w] in [0, 1].
        labels: [B, C] image labels.
        quantile: in [0, 1].
        sure: a pixel with a lower score is sure background of the class.

    Returns:
        [C] cosines; nan for a class without such pixels.
    """
    background = (labels[..., None, None] > 0) & (scores < sure)
    values = foreign.masked_fill(~background, torch.nan).transpose(0, 1).flatten(1)
    return values.nanquantile(quantile, dim=1)


@torch.no_grad()
def gate(own: Tensor, foreign: Tensor, reach: Tensor, temperature: float, reach_temperature: float) -> Tensor:
    """Lower a class where foreign background explains a pixel, and better than the class does.

    (1 - sigmoid((f - r) / T_r) sigmoid((f - o) / T)) ** 2 with the cosines o to the class's nearest prototype
    and f to the nearest foreign word, and the reach r of foreign words: where a class's background never
    occurs without the class, no foreign word comes near it, and the gate is 1.

    Args:
        own: [B, C, h, w] of `Affinity`.
        foreign: [B, C, h, w] of `Affinity`.
        reach: [C]; infinite for a class that is not to be gated.
        temperature: T.
        reach_temperature: T_r.

    Returns:
        [B, C, h, w] in (0, 1].
    """
    background = torch.sigmoid((foreign - reach[:, None, None]) / reach_temperature)
    better = torch.sigmoid((foreign - own) / temperature)
    return (1 - background * better).clamp_min(torch.finfo(better.dtype).eps).square()
