"""Colours of classes, instances and methods."""

from collections.abc import Sequence
from colorsys import hsv_to_rgb

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

# Seven colours of Okabe and Ito (2008), and thirteen that are as different as possible from these and from
# each other, for normal vision and with protanopia, deuteranopia and tritanopia. None is dark.
CATEGORICAL = (
    *("#d55e00", "#56b4e9", "#009e73", "#f0e442", "#a54bff", "#e69f00", "#cc79a7"),
    *("#0072b2", "#4bfff0", "#b40078", "#96d296", "#781ee1", "#9687ff", "#c30000"),
    *("#a5ff96", "#d200b4", "#964b4b", "#00d2d2", "#78b478", "#f0c35a"),
)

# Of lines on white, where yellow cannot be seen.
METHODS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

Colour = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""

_GOLDEN = (5**0.5 - 1) / 2
_SHADES = (0.0, 0.5, -0.4)  # of instances of one class: mixed with white (positive) or black (negative)


def class_colours(count: int) -> NDArray[np.float64]:
    """The colours of `count` classes, [count, 3] in [0, 1]: row 0 is class 1.

    A class has the same colour in every figure. Beyond twenty, colours differ in hue, value and saturation,
    but are hard to tell apart with a colour vision deficiency.
    """
    known = [to_rgb(colour) for colour in CATEGORICAL[:count]]
    more = range(len(known), count)
    spread = [hsv_to_rgb(k * _GOLDEN % 1, (1, 0.6)[k % 2], (0.95, 0.95, 0.65)[k % 3]) for k in more]
    return np.array(known + spread).reshape(count, 3)


def instance_colours(labels: Sequence[int], num_classes: int) -> list[Colour]:
    """A colour for each instance: that of its class, in shades where a class has several.

    Args:
        labels: class numbers 1..C.
        num_classes: C.
    """
    colours, seen = class_colours(num_classes), dict.fromkeys(labels, 0)
    found: list[Colour] = []
    for label in labels:
        shade = _SHADES[seen[label] % len(_SHADES)]
        red, green, blue = ((1 - abs(shade)) * colours[label - 1] + max(shade, 0)).tolist()
        found.append((red, green, blue))
        seen[label] += 1
    return found
