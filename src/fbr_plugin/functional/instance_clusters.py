"""Clusters of the pixels whose displacements lead to the same place, which are IRN's instances.

After Ahn, Cho, Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (CVPR
2019), and `step/make_ins_seg_labels.py` of jiwoon-ahn/irn at a2ece00.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from fbr_plugin.errors import InputError


@torch.no_grad()
def refine_centroids(displacement: Tensor, steps: int = 300) -> Tensor:
    """Follow the displacements from every pixel, towards the centroid of its instance.

    A step adds the displacement at the place reached so far, interpolated bilinearly between the pixels
    around it, and stays within the grid.

    Args:
        displacement: [2, h, w], by dy and dx in pixels of the grid.
        steps: number of refinement steps; 300 as published, which asks for at least 100.

    Returns:
        [2, h, w] float32, the place (y, x) that each pixel reaches.

    Raises:
        ValueError: `displacement` has a wrong shape or is not finite, or `steps` is negative.
    """
    _check_displacement(displacement)
    if steps < 0:
        raise InputError(f"steps must be at least 0, got {steps}")
    height, width = displacement.shape[1:]
    axes = (torch.arange(side, dtype=torch.float32, device=displacement.device) for side in (height, width))
    centroids = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    last = centroids[:, -1:, -1:].clone()
    field = displacement.flatten(1)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return field.index_select(1, (rows * width + columns).flatten()).view_as(centroids)

    for _ in range(steps):
        # As released: places in single precision, steps in double. Long paths would amplify other roundings.
        low, high = centroids.floor(), centroids.ceil()
        down, right = centroids.double() - low
        (top, left), (bottom, far) = low.long(), high.long()
        step = at(bottom, far) * down * right
        step += at(top, far) * (1 - down) * right
        step += at(bottom, left) * down * (1 - right)
        step += at(top, left) * (1 - down) * (1 - right)
        centroids = (centroids + step).float().clamp(min=0).minimum(last)
    return centroids


@torch.no_grad()
def cluster_pixels(centroids: Tensor, displacement: Tensor, threshold: float = 2.5) -> Tensor:
    """Number the pixels by the region of near-zero displacements into which their centroids fall.

    The regions are connected by their edges, not their corners. As in the released code, the pixels whose
    centroids fall into no region are a cluster of their own, the first.

    Args:
        centroids: [2, h, w], of `refine_centroids`.
        displacement: [2, h, w].
        threshold: displacements shorter than this many pixels of the grid are near zero; 2.5 as published.

    Returns:
        [h, w] int64 numbers 0 to N-1 of the N clusters.

    Raises:
        ValueError: shapes differ, a displacement is not finite, or `threshold` is not above 0.
    """
    _check_displacement(displacement)
    if centroids.shape != displacement.shape:
        raise InputError(
            "centroids and displacement must be [2, h, w] of the same grid, got "
            f"{tuple(centroids.shape)} and {tuple(displacement.shape)}"
        )
    if not threshold > 0:
        raise InputError(f"threshold must be above 0 pixels of the grid, got {threshold}")
    regions = connected_components(displacement.square().sum(0).sqrt() < threshold)
    rows, columns = centroids.round().long()
    clusters: Tensor = regions[rows, columns].unique(return_inverse=True)[1]
    return clusters


@torch.no_grad()
def connected_components(labels: Tensor) -> Tensor:
    """Number the regions of one label whose pixels are connected by their edges.

    Args:
        labels: [H, W] of bool or of integers, where 0 belongs to no region.

    Returns:
        [H, W] int64 on the device of the labels, 1 to N in the order of the regions' first pixels, 0 where
        the label is.
    """
    values = labels.cpu().numpy()
    # Pixels and, between them, the edges that join two of the same label.
    joined = np.zeros([2 * side - 1 for side in values.shape], bool)
    joined[::2, ::2] = values > 0
    joined[1::2, ::2] = (values[1:] == values[:-1]) & (values[1:] > 0)
    joined[::2, 1::2] = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > 0)
    numbers = ndimage.label(joined)[0][::2, ::2]
    return torch.from_numpy(numbers.astype(np.int64)).to(labels.device)


def _check_displacement(displacement: Tensor) -> None:
    """Raise for a field of wrong shape, or with NaN or infinite values."""
    if displacement.ndim != 3 or len(displacement) != 2 or not displacement.numel():
        raise InputError(f"displacement must be [2, h, w], got {tuple(displacement.shape)}")
    if not displacement.isfinite().all():
        raise InputError(
            "displacement must be finite, got NaN or infinite values: check the weights and the image"
        )
