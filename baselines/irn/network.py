"""IRN's two branches on the levels of an encoder: class boundaries and displacements.

After `net/resnet50_irn.py` of jiwoon-ahn/irn at a2ece00.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

HORIZON = 100  # batches over which the displacements are averaged


class Grid(NamedTuple):
    """The grid of the predictions.

    Attributes:
        stride: image pixels per pixel of the grid.
        height: of the grid.
        width: of the grid.
    """

    stride: int
    height: int
    width: int

    def fit(self, maps: Tensor, stride: int) -> Tensor:
        """Resize maps: [B, L, h, w] of a stride, aligned at the upper left, to [B, L, height, width]."""
        if stride < self.stride:
            maps = avg_pool2d(maps, self.stride // stride, ceil_mode=True)
        elif stride > self.stride:
            maps = interpolate(maps, scale_factor=stride / self.stride, mode="bilinear", align_corners=False)
        return maps[..., : self.height, : self.width]

    def activated(self, maps: Tensor, stride: int, late: bool) -> Tensor:
        """`fit` after ReLU or, with `late`, before it as in the released code."""
        return self.fit(maps, stride).relu() if late else self.fit(maps.relu(), stride)


def projection(channels: int, width: int) -> nn.Sequential:
    """A 1x1 convolution and group normalisation, before the ReLU of `Grid.activated`."""
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(min(16, width // 8), width))


class BoundaryBranch(nn.Module):
    """Logits of a class boundary from all levels of an encoder.

    Args:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        late_relu: whether ReLU follows the resizing of maps, as in the released code.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], late_relu: bool = False) -> None:
        super().__init__()
        self.strides = strides
        self.late_relu = late_relu
        self.projections = nn.ModuleList(projection(width, 32) for width in channels)
        self.classifier = nn.Conv2d(32 * len(channels), 1, 1)

    def forward(self, levels: Sequence[Tensor], grid: Grid) -> Tensor:
        """Map the levels [B, L_j, h_j, w_j] to logits [B, height, width]."""
        parts = zip(self.projections, levels, self.strides, strict=True)
        late = self.late_relu
        maps = [grid.activated(project(level), stride, late) for project, level, stride in parts]
        logits: Tensor = self.classifier(torch.cat(maps, 1))
        return logits[:, 0]


class MeanShift(nn.Module):
    """Subtracts, in evaluation, the training images' mean displacement, which the pairwise losses leave free.

    It is a mean over the last batches, so that every checkpoint holds it. The released code computes it in a
    pass over all images after training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, displacement: Tensor) -> Tensor:
        """Map displacement: [B, 2, h, w] to the same, centred in evaluation."""
        mean, batches = self.get_buffer("mean"), self.get_buffer("batches")
        if not self.training:
            return displacement - mean[:, None, None]
        batches += batches < HORIZON
        mean += (displacement.detach().mean((0, 2, 3)) - mean) / batches
        return displacement


class DisplacementBranch(nn.Module):
    """Displacements from all levels of an encoder, of which the deeper half is merged first.

    Args:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        late_relu: whether ReLU follows the resizing of maps, as in the released code.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], late_relu: bool = False) -> None:
        super().__init__()
        self.strides = strides
        self.late_relu = late_relu
        self.split = len(channels) // 2
        widths = [min(256, 64 * 2**level) for level in range(len(channels))]
        self.projections = nn.ModuleList(map(projection, channels, widths))
        self.merge_deep = projection(sum(widths[self.split :]), 256)
        self.merge = projection(sum(widths[: self.split]) + 256, 256)
        self.regressor = nn.Conv2d(256, 2, 1, bias=False)
        self.mean_shift = MeanShift()

    def forward(self, levels: Sequence[Tensor], grid: Grid) -> Tensor:
        """Map the levels [B, L_j, h_j, w_j] to displacements [B, 2, height, width] in pixels of the grid."""
        coarse, late = Grid(self.strides[self.split], *levels[self.split].shape[-2:]), self.late_relu
        maps = [project(level) for project, level in zip(self.projections, levels, strict=True)]
        pairs = list(zip(maps, self.strides, strict=True))
        deep = [coarse.activated(*pair, late) for pair in pairs[self.split :]]
        shallow = [grid.activated(*pair, late) for pair in pairs[: self.split]]
        merged = grid.activated(self.merge_deep(torch.cat(deep, 1)), coarse.stride, late)
        features = self.merge(torch.cat([*shallow, merged], 1)).relu()
        displacement: Tensor = self.mean_shift(self.regressor(features))
        return displacement
