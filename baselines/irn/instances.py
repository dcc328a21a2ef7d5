"""Instances of an image: its scores, propagated from each cluster of its displacement field.

After Ahn, Cho, Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (CVPR
2019), and `step/make_ins_seg_labels.py` of jiwoon-ahn/irn at a2ece00.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from scipy.sparse import csgraph
from torch import Tensor
from torch.nn.functional import interpolate

from fbr_plugin.errors import InputError
from fbr_plugin.functional import cluster_pixels, connected_components, refine_centroids
from fbr_plugin.instances import Instances

MAP_BYTES = 16  # of a pixel of a propagated map: upsampled, resized, and copies of both


class Relations(NamedTuple):
    """What IRN predicts of images, or the truth in its place.

    Attributes:
        boundary: [..., h, w] in [0, 1], strength of a class boundary.
        displacement: [..., 2, h, w], by dy and dx towards the centroid of the pixel's instance.
    """

    boundary: Tensor
    displacement: Tensor


class InstanceSteps(NamedTuple):
    """The instances of an image, and the steps that led to them, for figures.

    Attributes:
        centroids: [2, h, w], the place (y, x) that each pixel reaches.
        clusters: [h, w] int64 numbers from 0.
        instances: with `masks` [N, H, W], `labels` and `scores`.
    """

    centroids: Tensor
    clusters: Tensor
    instances: Instances


class _Contest(NamedTuple):
    """Which map has the highest score at each pixel.

    Attributes:
        best: [H, W] the highest score, at least 0.
        winner: [H, W] int64 number of the map from 1; 0 where no score is above 0.
        kinds: [M] int64, the index of each map's class.
    """

    best: Tensor
    winner: Tensor
    kinds: Tensor


@torch.no_grad()
def find_instances(
    displacement: Tensor,
    scores: Tensor,
    classes: Tensor,
    walk: Callable[[Tensor], Tensor],
    size: Sequence[int],
    background: float = 0.25,
    centroid_steps: int = 300,
    cluster_threshold: float = 2.5,
    min_share: float = 0.01,
    join: bool = False,
    max_memory: int = 2**30,
) -> InstanceSteps:
    """Propagate each class's scores from each cluster of pixels, and give a pixel to the best of these maps.

    The maps are divided by the maximum over all of them. The connected fragments of a map are instances of
    their own, class by class, each with the map's highest score in it. Fragments smaller than `min_share` get
    the score 0 and are kept, as in the released code: they come last in a ranking, where they can only add
    recall, and who trains on the instances can leave them out.

    Args:
        displacement: [2, h, w], by dy and dx towards the centroid of the pixel's instance.
        scores: [K, h, w] of the image's classes.
        classes: [K] int64 class numbers 1..C.
        walk: propagates maps [n, h, w] and returns them as [n, H, W].
        size: H and W.
        background: score of the background, in [0, 1].
        centroid_steps: refinement steps of the displacement field, see `refine_centroids`.
        cluster_threshold: shorter displacements, in pixels of the grid, are near zero, see `cluster_pixels`.
        min_share: fragments with a smaller share of the image's pixels get the score 0.
        join: whether fragments of a map are one instance if their centroids are less than `cluster_threshold`
            apart, such as the two ends of a partly hidden object.
        max_memory: bytes that the propagated maps may use at once, and the masks of the result; if these were
            larger, the smallest are left out.

    Raises:
        ValueError: a shape does not fit, a setting is out of range, or a value is not finite.
    """
    if not (0 <= background <= 1 and 0 <= min_share <= 1):
        raise InputError(
            f"background and min_share must be in [0, 1], got background={background}, min_share={min_share}"
        )
    if scores.shape[1:] != displacement.shape[1:] or classes.shape != scores.shape[:1]:
        raise InputError(
            "scores must be [K, h, w] of K classes on the grid of the displacement [2, h, w], got "
            f"{tuple(scores.shape)}, {tuple(classes.shape)} and {tuple(displacement.shape)}"
        )
    centroids = refine_centroids(displacement, centroid_steps)
    clusters = cluster_pixels(centroids, displacement, cluster_threshold)
    pixels = math.prod(size)
    contest = _contest(clusters, scores, walk, size, max(1, max_memory // (MAP_BYTES * pixels)))
    best = contest.best / contest.best.max().clamp(min=torch.finfo(contest.best.dtype).tiny)
    won = contest.winner * (best > background)
    parts = connected_components(won).flatten()
    if join:
        parts = _joined(parts, won, centroids, cluster_threshold)
    sizes = parts.bincount()[1:]
    kept = sizes.argsort(descending=True, stable=True)[: max_memory // pixels].sort().values
    maps = of_parts(won, parts, "amax")
    kept = kept[maps[kept].argsort(stable=True)]
    highest = of_parts(best, parts, "amax").where(sizes >= min_share * pixels, 0)
    found: Instances = {
        "masks": (parts == kept[:, None] + 1).view(-1, *size),
        "labels": classes[contest.kinds[maps[kept] - 1]],
        "scores": highest[kept],
    }
    return InstanceSteps(centroids, clusters, found)


def _contest(
    clusters: Tensor, scores: Tensor, walk: Callable[[Tensor], Tensor], size: Sequence[int], at_once: int
) -> _Contest:
    """Propagate the scores [K, h, w] of each cluster, `at_once` maps together, without maps of zeros."""
    columns = clusters.flatten().expand(len(scores), -1)
    highest = scores.new_zeros(len(scores), int(clusters.max()) + 1)
    pairs = highest.scatter_reduce(1, columns, scores.abs().flatten(1), "amax").nonzero()
    best, winner = scores.new_zeros(tuple(size)), clusters.new_zeros(tuple(size))
    for first in range(0, len(pairs), at_once):
        kinds, groups = pairs[first : first + at_once].unbind(1)
        top, number = walk(scores[kinds] * (clusters == groups[:, None, None])).max(0)
        winner = torch.where(top > best, number + first + 1, winner)
        best = best.maximum(top)
    return _Contest(best, winner, pairs[:, 0])


def of_parts(values: Tensor, parts: Tensor, reduce: str) -> Tensor:
    """The "amax", "amin" or "mean" of values [H, W] in each of the parts [H*W], which count from 1."""
    found = values.new_zeros(int(parts.max()) + 1)
    return found.scatter_reduce(0, parts, values.flatten(), reduce, include_self=False)[1:]


def _joined(parts: Tensor, won: Tensor, centroids: Tensor, threshold: float) -> Tensor:
    """Renumber the parts [H*W], so that those of one map whose mean centroids are near are one.

    Args:
        parts: numbers from 1 of connected fragments.
        won: [H, W] numbers of the maps.
        centroids: [2, h, w].
        threshold: largest distance on that grid.
    """
    reached = interpolate(centroids[None], won.shape, mode="nearest-exact")[0]
    places = torch.stack([of_parts(axis, parts, "mean") for axis in reached], 1)
    maps = of_parts(won, parts, "amax")
    near = (torch.cdist(places, places) < threshold) & (maps[:, None] == maps)
    groups = torch.from_numpy(csgraph.connected_components(near.cpu().numpy())[1]).to(parts)
    return torch.cat([groups.new_zeros(1), groups + 1])[parts]


def check_classes(classes: Tensor, maps: int, num_classes: int) -> None:
    """Raise unless there is a class number 1..C for each map."""
    if classes.shape != (maps,) or not ((classes > 0) & (classes <= num_classes)).all():
        raise InputError(
            f"classes must be the numbers of the {maps} maps, each from 1 to {num_classes}, got "
            f"{classes.tolist()}; the keys of seeds count from 0"
        )
