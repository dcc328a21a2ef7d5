"""Batched, masked k-means: one clustering per image, all images at once, on the device of the points."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.distributed import BatchShare
from fbr_plugin.errors import InputError
from fbr_plugin.functional.counter_random import Generator, uniform


class KMeans(NamedTuple):
    """The result of `kmeans`.

    Attributes:
        centroids: [B, K, D] float32 (float64 for float64 points); rows that are not `valid` are 0.
        valid: [B, K] bool.
        assignments: [B, N] int64, the nearest valid centroid; -1 outside the mask.
    """

    centroids: Tensor
    valid: Tensor
    assignments: Tensor


@torch.no_grad()
def kmeans(
    points: Tensor,
    mask: Tensor,
    num_clusters: int,
    *,
    iterations: int = 10,
    generator: Generator | None = None,
    share: BatchShare = BatchShare(),
) -> KMeans:
    """Cluster the masked points of each row: greedy k-means++ seeding, then Lloyd iterations.

    For a row with at most `num_clusters` masked points, these points are the centroids. A cluster that
    becomes empty moves to the point farthest from its centroid. Seeding follows Arthur and Vassilvitskii,
    *k-means++*, SODA 2007, with the best of 2 + floor(ln K) candidates per step. The host never waits for the
    device.

    Args:
        points: [B, N, D], any floating type; computed in at least float32.
        mask: [B, N] bool, the points that take part.
        num_clusters: K.
        iterations: number of Lloyd iterations, without early stopping.
        generator: source of randomness, on the device of `points`. Row b takes the draws of its place, so
            other rows in its place get the same draws.
        share: of the batch that the B rows are.

    Raises:
        ValueError: shapes do not match, or K or the number of iterations is below 1.
    """
    if points.dim() != 3 or mask.shape != points.shape[:2]:
        raise InputError(
            f"points must be [B, N, D] and mask [B, N], got {tuple(points.shape)} and {tuple(mask.shape)}"
        )
    if num_clusters < 1 or iterations < 1:
        raise InputError(f"num_clusters and iterations must be at least 1, got {num_clusters}, {iterations}")
    with torch.autocast(points.device.type, enabled=False):
        points = points.to(torch.promote_types(points.dtype, torch.float32)).contiguous()
        mass = mask.to(points.dtype)
        data = _Points(points, points.square().sum(-1, keepdim=True), mass)
        centroids = _seed(data, num_clusters, generator, share)
        for _ in range(iterations):
            centroids = _lloyd_step(data, centroids)
        centroids, valid = _few_points(data, centroids)
        distances = _squared_distances(data, centroids).masked_fill(~valid[:, None], torch.inf)
        assignments = distances.argmin(-1)
        valid = valid & (_members(assignments, mass, num_clusters).sum(1) > 0)
        return KMeans(centroids * valid[..., None], valid, assignments.masked_fill(~mask, -1))


class _Points(NamedTuple):
    """The points [B, N, D], their squared norms [B, N, 1] and their mass [B, N]: 1, or 0 outside the mask."""

    values: Tensor
    squares: Tensor
    mass: Tensor


def _squared_distances(points: _Points, centroids: Tensor) -> Tensor:
    """Distances [B, N, K] of the points to centroids [B, K, D]."""
    squares = points.squares + centroids.square().sum(-1)[:, None]
    return torch.baddbmm(squares, points.values, centroids.transpose(1, 2), alpha=-2).clamp_min(0)


def _members(assignments: Tensor, mass: Tensor, num_clusters: int) -> Tensor:
    """The mass of each point in its cluster: [B, N], [B, N] -> [B, N, K]."""
    return F.one_hot(assignments, num_clusters).to(mass.dtype) * mass[..., None]


def _draw(mass: Tensor, draws: int, generator: Generator | None, share: BatchShare) -> Tensor:
    """Sample indices [B, draws] with probability proportional to `mass` [B, N]; any index if all are 0."""
    cumulative = mass.cumsum(-1)
    drawn = uniform((len(mass), draws), mass.device, generator, mass.dtype, share)
    # The last point with mass ends the range, whatever the rounding of the cumulative sum.
    last = mass.shape[1] - 1 - (mass > 0).flip(-1).to(torch.int8).argmax(-1, keepdim=True)
    index = torch.searchsorted(cumulative, drawn * cumulative[:, -1:], right=True)
    return torch.minimum(index, last)


def _rows(points: Tensor, index: Tensor) -> Tensor:
    """Gather rows: [B, N, D] at [B, M] -> [B, M, D]."""
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))


def _seed(points: _Points, num_clusters: int, generator: Generator | None, share: BatchShare) -> Tensor:
    """Greedy k-means++: centroids [B, K, D]."""
    candidates = 2 + int(math.log(num_clusters))
    chosen = _rows(points.values, _draw(points.mass, 1, generator, share))
    closest = _squared_distances(points, chosen)[..., 0]
    centroids = [chosen]
    for _ in range(num_clusters - 1):
        trial = _rows(points.values, _draw(points.mass * closest, candidates, generator, share))
        distances = torch.minimum(closest[..., None], _squared_distances(points, trial))
        best = (distances * points.mass[..., None]).sum(1).argmin(-1, keepdim=True)
        centroids.append(_rows(trial, best))
        closest = distances.gather(-1, best[:, None].expand(-1, distances.shape[1], 1))[..., 0]
    return torch.cat(centroids, 1)


def _lloyd_step(points: _Points, centroids: Tensor) -> Tensor:
    """One assignment and update; empty clusters take the farthest points, one each."""
    num_clusters = centroids.shape[1]
    nearest, assignments = _squared_distances(points, centroids).min(-1)
    members = _members(assignments, points.mass, num_clusters)
    total = members.sum(1)
    tiny = torch.finfo(total.dtype).tiny
    means = torch.bmm(members.transpose(1, 2), points.values) / total.clamp_min(tiny)[..., None]
    empty = total == 0
    far = (nearest * (points.mass > 0)).topk(min(num_clusters, nearest.shape[1]), dim=1).indices
    order = (empty.cumsum(1) - 1).clamp(0, far.shape[1] - 1)
    return torch.where(empty[..., None], _rows(points.values, far.gather(1, order)), means)


def _few_points(points: _Points, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Use the masked points as centroids where there are at most K; also return which rows are valid."""
    num_clusters, num_points = centroids.shape[1], points.values.shape[1]
    present = points.mass > 0
    count = present.sum(1, keepdim=True)
    first = torch.argsort(present.to(torch.int8), dim=1, descending=True, stable=True)[:, :num_clusters]
    own = F.pad(_rows(points.values, first), (0, 0, 0, max(0, num_clusters - num_points)))
    centroids = torch.where((count <= num_clusters)[..., None], own, centroids)
    return centroids, torch.arange(num_clusters, device=centroids.device) < count
