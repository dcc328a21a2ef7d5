"""IRN's random walk, which propagates scores over a grid of pixels, but not across class boundaries.

After Ahn, Cho, Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (CVPR
2019), sections 3.3 and 3.5, and `misc/indexing.py` of jiwoon-ahn/irn at a2ece00.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from fbr_plugin.errors import InputError

PAIR_BYTES = 30  # of a pair of pixels, while the matrix is built: weight, flag, column, copies of two of them
CLASS_BYTES = 32  # of a pixel of a class: score before and after a step, copies at start and end

Offset = tuple[int, int]
Path = tuple[Offset, ...]


@cache
def paths(radius: int) -> tuple[Path, ...]:
    """The straight paths from a pixel to those less than `radius` away that come after it, row by row.

    A path holds the pixels between its ends that are less than one pixel off the line between them, as
    offsets (dy, dx) from its first end, (0, 0); the last offset is its other end.

    Args:
        radius: in pixels; no paths exist below 2.
    """
    return tuple(
        _path(y, x)
        for y in range(radius)
        for x in range(1 - radius if y else 1, radius)
        if y * y + x * x < radius * radius
    )


def _path(y: int, x: int) -> Path:
    """The straight path to the offset (y, x), of which y is at least 0."""
    box = ((i, j) for i in range(y + 1) for j in range(min(x, 0), max(x, 0) + 1))
    near = [(i, j) for i, j in box if (y * j - x * i) ** 2 < y * y + x * x]
    return tuple(sorted(near, key=lambda offset: abs(offset[0]) + abs(offset[1])))


def neighbours(maps: Tensor, end: Offset, offset: Offset = (0, 0)) -> Tensor:
    """The values of maps at `offset` from every pixel whose `end` lies within them.

    Args:
        maps: [..., h, w].
        end: the other end of a path.
        offset: a pixel of that path.

    Returns:
        [..., h - dy, w - |dx|] view for the end (dy, dx); empty where the grid is smaller than the path.
    """
    (down, right), (y, x) = end, offset
    height, width = max(maps.shape[-2] - down, 0), max(maps.shape[-1] - abs(right), 0)
    left = max(-right, 0) + x
    return maps[..., y : y + height, left : left + width]


def path_affinity(boundary: Tensor, path: Path) -> Tensor:
    """One minus the strongest boundary on the path from each pixel to its other end, both ends included.

    Args:
        boundary: [..., h, w] in [0, 1].
        path: from (0, 0) to (dy, dx), one of `paths`.

    Returns:
        [..., h - dy, w - |dx|] in [0, 1], with gradient.
    """
    return 1 - torch.stack([neighbours(boundary, path[-1], offset) for offset in path]).amax(0)


def transition_matrix(boundary: Tensor, radius: int = 5, beta: float = 10.0) -> Tensor:
    """The sparse matrix of a step, which replaces each pixel's score by a mean over its surroundings.

    A pixel less than `radius` away has the weight affinity ** `beta`, and the pixel itself 1. The released
    code multiplies row vectors by the transposed matrix.

    Args:
        boundary: [h, w] in [0, 1].
        radius: in pixels.
        beta: exponent of the affinities.

    Returns:
        Sparse CSR [h*w, h*w] with 32-bit indices, whose rows sum to 1.
    """
    return step_matrix(lambda path: path_affinity(boundary, path) ** beta, boundary, radius)


def step_matrix(weight: Callable[[Path], Tensor], grid: Tensor, radius: int) -> Tensor:
    """The sparse matrix of a step in which pixels exchange scores by symmetric weights.

    Args:
        weight: of a path, the weights [h - dy, w - |dx|] of its two ends, as of `path_affinity`.
        grid: [h, w], of the type and device of the weights.
        radius: pixels less than this far apart exchange scores.

    Returns:
        Sparse CSR [h*w, h*w] with 32-bit indices, whose rows sum to 1.
    """
    forward = paths(radius)
    height, width = grid.shape
    own = len(forward)  # pixels are ordered row by row, and so are the neighbours of each
    weights = grid.new_zeros(height, width, 2 * own + 1)
    weights[..., own] = 1
    planes = weights.movedim(-1, 0)
    for number, path in enumerate(forward, start=1):
        affinity = weight(path)
        neighbours(planes[own + number], path[-1]).copy_(affinity)
        neighbours(planes[own - number], path[-1], path[-1]).copy_(affinity)
    weights /= weights.sum(-1, keepdim=True)
    kept = weights > 0
    later = [down * width + right for *_, (down, right) in forward]
    shifts = torch.tensor([*(-shift for shift in reversed(later)), 0, *later])
    pixels = torch.arange(height * width).view(height, width, 1)
    columns = pixels.int().to(grid.device) + shifts.int().to(grid.device)
    ends = kept.sum(-1).flatten().cumsum(0).int()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.cat([ends.new_zeros(1), ends]),
            columns.masked_select(kept),
            weights.masked_select(kept),
            (height * width, height * width),
            check_invariants=False,
        )


@torch.no_grad()
def propagate(
    scores: Tensor,
    boundary: Tensor,
    radius: int = 5,
    beta: float = 10.0,
    steps: int = 256,
    max_memory: int = 2**30,
) -> Tensor:
    """Propagate scores by a random walk over the pixels that no boundary separates.

    Scores are first multiplied by 1 - boundary. The steps are sparse products of as many classes at once as
    the memory allows; the dense matrix [h*w, h*w] is never built. They run in double precision, because
    rounding errors accumulate over the steps: in float32 they reach 6e-5.

    Args:
        scores: [K, h, w], each of any class or instance.
        boundary: [h, w] in [0, 1], strength of the class boundary.
        radius: only pixels less than this many pixels apart exchange scores in a step.
        beta: exponent of the affinities; the larger, the stricter the boundaries.
        steps: number of steps; IRN squares its matrix 8 times, which makes 256.
        max_memory: bytes that the walk may use besides its arguments and its result.

    Returns:
        [K, h, w] in the type of the scores, at least float32.

    Raises:
        ValueError: an argument has a wrong shape or range, or a single class exceeds `max_memory`.
    """
    check_settings(radius, beta, steps)
    _check_maps(scores, boundary)
    pixels = boundary.numel()
    matrix, one_class = PAIR_BYTES * pixels * (2 * len(paths(radius)) + 1), CLASS_BYTES * pixels
    at_once = (max_memory - matrix) // one_class
    if at_once < 1:
        raise InputError(
            f"the walk over {boundary.shape[0]}x{boundary.shape[1]} pixels with radius={radius} takes "
            f"{matrix + one_class} bytes, more than max_memory={max_memory}: raise it, or bring scores and "
            "boundary to a coarser grid"
        )
    boundary = boundary.double()
    with torch.autocast(boundary.device.type, enabled=False):
        transition = transition_matrix(boundary, radius, beta)
        parts = [
            walk(part * (1 - boundary), transition, steps).to(torch.promote_types(part.dtype, torch.float32))
            for part in scores.split(at_once)
        ]
    return torch.cat(parts)


def walk(scores: Tensor, transition: Tensor, steps: int) -> Tensor:
    """Scores [K, h, w] after a number of steps by a matrix of `step_matrix`."""
    # A single class as a vector: the product is three times as fast as with a matrix of one column.
    rows = scores.flatten(1).t().squeeze(1)
    for _ in range(steps):
        rows = transition @ rows
    return rows.t().reshape(scores.shape)


def check_settings(radius: int, beta: float, steps: int) -> None:
    """Raise `ValueError` for settings out of range."""
    if radius < 1 or beta <= 0 or steps < 0:
        raise InputError(
            "a walk has a radius of at least 1 pixel, a beta above 0 and at least 0 steps, got "
            f"radius={radius}, beta={beta} and steps={steps}"
        )


def check_image(image: Tensor, scores: Tensor) -> None:
    """Raise `ValueError` for other shapes than one image [1, 3, H, W] and its scores [K, H', W']."""
    if len(image) != 1 or image.ndim != 4 or scores.ndim != 3:
        raise InputError(
            "a walk is over one image [1, 3, H, W] with scores [K, H', W'], got "
            f"{tuple(image.shape)} and {tuple(scores.shape)}"
        )


def _check_maps(scores: Tensor, boundary: Tensor) -> None:
    """Raise for maps of wrong shape or range."""
    if boundary.ndim != 2 or scores.ndim != 3 or scores.shape[1:] != boundary.shape:
        raise InputError(
            "scores must be [K, h, w] and boundary [h, w] of the same grid, got "
            f"{tuple(scores.shape)} and {tuple(boundary.shape)}"
        )
    if not ((boundary >= 0) & (boundary <= 1)).all():
        low, high = boundary.min().item(), boundary.max().item()
        raise InputError(
            f"boundary must be in [0, 1] without NaN, got [{low:g}, {high:g}]: take the sigmoid of logits"
        )
    if not scores.isfinite().all():
        raise InputError("scores must be finite, got NaN or infinite ones")
