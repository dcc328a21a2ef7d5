"""Objects of the procedural scenes: five parametric shapes that share one palette.

What tells the classes apart is their outline, a weak pattern on the body and one small saturated part.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.scenes.textures import Canvas, Map, jittered

CLASS_NAMES = ("boat", "train", "sheep", "car", "chair")

_BODY_COLOURS = (
    (0.72, 0.72, 0.72),
    (0.85, 0.82, 0.75),
    (0.50, 0.50, 0.55),
    (0.60, 0.45, 0.38),
    (0.38, 0.45, 0.50),
)


class _Shape(NamedTuple):
    """Body [S, S] bool, telling part [S, S] bool, pattern of the body [S, S] about -1 to 1."""

    body: NDArray[np.bool_]
    part: NDArray[np.bool_]
    pattern: Map


def _box(u: Map, v: Map, left: float, right: float, top: float, bottom: float) -> NDArray[np.bool_]:
    return (u > left) & (u < right) & (v > top) & (v < bottom)


def _ellipse(u: Map, v: Map, cu: float, cv: float, ru: float, rv: float) -> NDArray[np.bool_]:
    return ((u - cu) / ru) ** 2 + ((v - cv) / rv) ** 2 < 1


def _boat(u: Map, v: Map) -> _Shape:
    hull = (np.abs(u) < 1.055 - 0.55 * v) & (v > 0.1) & (v < 0.65)
    cabin = _box(u, v, 0.05, 0.65, -0.35, 0.12)
    sail = (v > -0.65) & (v < 0.1) & (u > -0.5) & (u < -0.11 + 0.6 * v)
    return _Shape(hull | cabin, sail, np.sin(14 * v))


def _train(u: Map, v: Map) -> _Shape:
    wagon = _box(u, v, -1.1, 1.1, -0.42, 0.42)
    return _Shape(wagon, wagon & (u > 0.72), np.sign(np.sin(11 * u)))


def _sheep(u: Map, v: Map) -> _Shape:
    legs = _box(np.abs(u), v, 0.38, 0.62, 0, 0.85)
    head = _ellipse(u, v, 0.9, -0.3, 0.3, 0.27)
    return _Shape(_ellipse(u, v, 0, 0, 0.95, 0.5) | legs, head, np.sin(16 * u) * np.sin(16 * v))


def _car(u: Map, v: Map) -> _Shape:
    dome = _ellipse(u, v, 0, -0.02, 0.62, 0.55) & (v < 0)
    wheels = _ellipse(np.abs(u), v, 0.55, 0.45, 0.2236, 0.2236)
    return _Shape(_box(u, v, -1, 1, -0.05, 0.42) | dome, wheels, 1.3 * v)


def _chair(u: Map, v: Map) -> _Shape:
    back = _box(u, v, -0.76, -0.44, -0.9, 0.9)
    seat = _box(u, v, -0.7, 0.75, -0.2, 0.2)
    leg = _box(u, v, 0.47, 0.73, 0, 0.9)
    cushion = _box(u, v, -0.3, 0.4, -0.42, -0.15)
    return _Shape(back | seat | leg, cushion, np.sin(12 * (u + v)))


#: Shape and colour of the telling part, in the order of `CLASS_NAMES`.
_OBJECTS: tuple[tuple[Callable[[Map, Map], _Shape], tuple[float, float, float]], ...] = (
    (_boat, (0.85, 0.12, 0.15)),
    (_train, (0.95, 0.85, 0.10)),
    (_sheep, (0.55, 0.05, 0.50)),
    (_car, (0.05, 0.75, 0.80)),
    (_chair, (1.00, 0.50, 0.05)),
)


def paint_object(
    rng: np.random.Generator, kind: int, centre: tuple[float, float], p_hide: float, canvas: Canvas
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """An object of class `kind` (0-based), randomly sized, turned, mirrored and coloured.

    Args:
        rng: source of randomness.
        kind: 0-based class.
        centre: (x, y) in design pixels.
        p_hide: probability that the telling part is missing.
        canvas: S x S pixels to draw on.

    Returns:
        Outline [S, S] bool and the colours to paint inside it [S, S, 3].
    """
    shape, part_colour = _OBJECTS[kind]
    half, angle, mirror = rng.uniform(12, 20), rng.uniform(-0.45, 0.45), float(rng.choice((-1, 1)))
    cos, sin = float(np.cos(angle)) / half, float(np.sin(angle)) / half
    dx, dy = canvas.x - centre[0], canvas.y - centre[1]
    body, part, pattern = shape(mirror * (cos * dx + sin * dy), cos * dy - sin * dx)

    body_colour = jittered(rng, _BODY_COLOURS[rng.integers(len(_BODY_COLOURS))], 0.08)
    noise = canvas.grain(rng, 3)
    colours = body_colour + 0.10 * pattern.astype(np.float32)[..., None] + 0.02 * noise
    if rng.random() < p_hide:
        return body, colours
    telling = jittered(rng, part_colour, 0.08) + 0.03 * noise
    return body | part, np.where(part[..., None], telling, colours)
