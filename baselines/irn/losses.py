"""IRN's losses on pairs of labelled pixels, for class boundaries and displacements.

After Ahn, Cho, Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (CVPR
2019), section 3.3, weighted as in `step/train_irn.py` of jiwoon-ahn/irn at a2ece00.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.functional.random_walk import neighbours, path_affinity, paths

EPSILON = 1e-5  # within the logarithms


class IRNLosses(NamedTuple):
    """The losses of a batch, 0-d.

    Attributes:
        positive: -log affinity, half from background pairs, half from pairs of one foreground class.
        negative: -log(1 - affinity) of pairs of different classes.
        displacement: L1 error of displacement differences, half from foreground pairs, whose target is the
            offset between the pixels, half from background pairs, whose target is 0.
        total: the mean of the first two, plus the third.
    """

    positive: Tensor
    negative: Tensor
    displacement: Tensor
    total: Tensor


def irn_losses(
    boundary: Tensor, displacement: Tensor, label: Tensor, radius: int, inner: bool = False
) -> IRNLosses:
    """The losses over all pairs of labelled pixels that are less than `radius` apart.

    Each is a mean over its kind of pairs, 0 if the batch has none.

    Args:
        boundary: [B, h, w] in [0, 1].
        displacement: [B, 2, h, w], by dy and dx towards the centre of the pixel's instance.
        label: [B, h, w] int64, 0 to C, 255 where unknown.
        radius: in pixels of the grid.
        inner: leave out the pairs of a pixel, the upper or left one of each, that is less than `radius` away
            from the left, right or lower border, as the released code does.
    """
    height, width = label.shape[1:]
    margin = radius - 1 if inner else 0
    starts = label.new_zeros(height, width, dtype=torch.bool)
    starts[: max(height - margin, 0), margin : max(width - margin, margin)] = True
    # Sums over pairs of background, of one foreground class, and of different classes.
    affinity_losses, displacement_losses, pairs = (boundary.new_zeros(3) for _ in range(3))
    for path in paths(radius):
        end = path[-1]
        ours, theirs = neighbours(label, end), neighbours(label, end, end)
        known = (ours != IGNORE) & (theirs != IGNORE) & neighbours(starts, end)
        same = ours == theirs
        kinds = known & torch.stack([same & (ours == 0), same & (ours > 0), ~same])
        affinity = path_affinity(boundary, path)
        wrong = -(torch.where(same, affinity, 1 - affinity) + EPSILON).log()
        difference = neighbours(displacement, end) - neighbours(displacement, end, end)
        wanted = difference.new_tensor(end).view(2, 1, 1) * kinds[1][:, None]
        error = (difference - wanted).abs().mean(1)
        affinity_losses = affinity_losses + (wrong * kinds).sum((1, 2, 3))
        displacement_losses = displacement_losses + (error * kinds).sum((1, 2, 3))
        pairs = pairs + kinds.sum((1, 2, 3))
    background, foreground, negative = (affinity_losses / pairs.clamp(min=1)).unbind()
    positive = (background + foreground) / 2
    of_displacement = (displacement_losses / pairs.clamp(min=1))[:2].mean()
    return IRNLosses(positive, negative, of_displacement, (positive + negative) / 2 + of_displacement)
