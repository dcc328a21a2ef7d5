"""Marks over pictures: outlines of masks, and hatching."""

from collections.abc import Iterator

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from fbr_plugin.figures.grid import Maps, photo_arrays
from fbr_plugin.figures.palette import Colour

RIM: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground="black")]
"""Makes a white line visible over light pixels."""

_LIGHTNESS = (0.3, 0.59, 0.11)  # weights of red, green and blue
_HATCH, _GREY = "//////", "0.45"


def outline(axes: Axes, mask: NDArray[np.bool_], colour: str | Colour) -> None:
    """Draw the boundary of a mask [H, W] over a picture, in a colour with a rim that stands out from it."""
    colour, (height, width) = to_rgb(colour), mask.shape
    around = (-1, width, -1, height)  # so that a mask that reaches the edge is closed there
    lines = axes.contour(np.pad(mask, 1), [0.5], colors=[colour], linewidths=0.9, extent=around)
    rim = "black" if np.dot(colour, _LIGHTNESS) > 0.6 else "white"
    lines.set_path_effects([withStroke(linewidth=1.7, foreground=rim)])


def hatch(axes: Axes, mask: NDArray[np.bool_]) -> None:
    """Hatch the pixels of a mask [H, W] over a picture."""
    if mask.any():
        height, width = mask.shape
        around = (-1, width, -1, height)
        filled = axes.contourf(np.pad(mask, 1), [0.5, 1.5], colors="none", hatches=[_HATCH], extent=around)
        filled.set(edgecolor=_GREY, linewidth=0)


def ignored_patch() -> Patch:
    """What a legend shows for hatched pixels."""
    return Patch(facecolor="white", edgecolor=_GREY, hatch=_HATCH, linewidth=0.5, label="ignored (no label)")


def pairs_of(images: Maps, maps: Maps) -> Iterator[tuple[NDArray[np.floating], NDArray[np.int64]]]:
    """Each image as [H, W, 3] with its map of integers, resized to [H, W]."""
    for photo, integers in zip(photo_arrays(images), maps, strict=True):
        resized = F.interpolate(integers[None, None].double(), photo.shape[:2], mode="nearest-exact")
        yield photo, resized[0, 0].long().cpu().numpy()
