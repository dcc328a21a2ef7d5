"""AffinityNet's head, and the affinities and losses of pairs of pixels.

After Ahn and Kwak, Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation (CVPR 2018), on ResNet-38d as in YudeWang/SEAM at 3212261 (`network/resnet38_aff.py`,
`train_aff.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.functional import resize
from fbr_plugin.functional.random_walk import Path, neighbours, paths

WIDTHS = (64, 128, 256)  # to which the last three levels are projected
EPSILON = 1e-5  # within the logarithms


class AffinityHead(nn.Module):
    """Features whose distances are affinities, from the last three levels of an encoder.

    Args:
        channels: widths of the three levels.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Conv2d(before, after, 1, bias=False) for before, after in zip(channels, WIDTHS, strict=True)
        )
        self.joint = nn.Conv2d(sum(WIDTHS), sum(WIDTHS), 1, bias=False)
        for level in self.levels:
            nn.init.kaiming_normal_(level.get_parameter("weight"))
        nn.init.xavier_uniform_(self.joint.weight, gain=4)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Map three levels [B, L_j, h_j, w_j] to features [B, 448, h, w] on the grid of the last."""
        size = levels[-1].shape[-2:]
        projected = [elu(project(level)) for project, level in zip(self.levels, levels, strict=True)]
        joint: Tensor = self.joint(torch.cat([resize(each, size, True) for each in projected], 1))
        return elu(joint)


def affinity(features: Tensor, path: Path) -> Tensor:
    """The affinity exp(-mean |f_i - f_j|) of each pixel and the other end of a path.

    Args:
        features: [..., D, h, w].
        path: one of `functional.random_walk.paths`, of which only the ends count.

    Returns:
        [..., h - dy, w - |dx|] in (0, 1].
    """
    end = path[-1]
    distance = (neighbours(features, end) - neighbours(features, end, end)).abs().mean(-3)
    return torch.exp(-distance)


def inner_starts(grid: Tensor, radius: int) -> Tensor:
    """Where pairs begin in the released code: 1 in [h, w] from which no path leaves the grid, else 0."""
    reach = radius - 1
    starts = torch.zeros_like(grid)
    starts[: max(grid.shape[0] - reach, 0), reach : max(grid.shape[1] - reach, reach)] = 1
    return starts


class AffinityLosses(NamedTuple):
    """The losses of a batch, 0-d.

    Attributes:
        background: -log affinity of pairs of background.
        foreground: -log affinity of pairs of one foreground class.
        negative: -log(1 - affinity) of pairs of different classes.
        total: their sum, weighted 1/4, 1/4 and 1/2.
    """

    background: Tensor
    foreground: Tensor
    negative: Tensor
    total: Tensor


def affinity_losses(
    features: Tensor, label: Tensor, radius: int = 5, border_pairs: bool = True
) -> AffinityLosses:
    """The losses over all pairs of labelled pixels less than `radius` apart, each a mean over its kind.

    Args:
        features: [B, D, h, w].
        label: [B, h, w] int64, 0 to C, 255 where unknown.
        radius: in pixels of the grid.
        border_pairs: whether pairs count that begin less than `radius` from the border of the image.
    """
    grid = features[0, 0]
    starts = torch.ones_like(grid) if border_pairs else inner_starts(grid, radius)
    losses, pairs = features.new_zeros(3), features.new_zeros(3)
    for path in paths(radius):
        ours, theirs = neighbours(label, path[-1]), neighbours(label, path[-1], path[-1])
        known, same = (ours != IGNORE) & (theirs != IGNORE), ours == theirs
        kinds = torch.stack([same & (ours == 0), same & (ours > 0), ~same]) & known
        counted = kinds * neighbours(starts, path[-1])
        alike = affinity(features, path)
        wrong = -(torch.where(same, alike, 1 - alike) + EPSILON).log()
        losses = losses + (wrong * counted).sum((1, 2, 3))
        pairs = pairs + counted.sum((1, 2, 3))
    background, foreground, negative = (losses / pairs.clamp(min=1)).unbind()
    total = (background + foreground) / 4 + negative / 2
    return AffinityLosses(background, foreground, negative, total)
