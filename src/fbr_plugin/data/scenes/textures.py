"""Canvas and background textures of the synthetic scenes.

All lengths are in design pixels: a scene is laid out on a 64 x 64 canvas and sampled at the requested size.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

DESIGN_SIZE = 64
#: The stuff in the order of its numbers 1..S, each with a texture. The first five belong to the classes boat,
#: train, sheep, car and chair; the others are neutral.
STUFF_NAMES = ("water", "rails", "grass", "brick", "wood", "sky", "sand", "asphalt", "wall")

Map = NDArray[np.floating]
"""A number for each pixel: [S, S]."""

_TAU = 2 * np.pi


class Canvas:
    """Coordinates and noise of a square canvas.

    Args:
        size: S, side length in pixels.

    Attributes:
        x, y: [S, S] float32, pixel centres in design pixels.
    """

    def __init__(self, size: int) -> None:
        centres = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(DESIGN_SIZE / size) - np.float32(0.5)
        self.size = size
        self.y, self.x = np.meshgrid(centres, centres, indexing="ij")
        self._cell = np.clip(np.rint(centres).astype(np.intp), 0, DESIGN_SIZE - 1)

    def grain(self, rng: np.random.Generator, channels: int = 1) -> NDArray[np.float32]:
        """White noise [S, S, channels] with the grain of a design pixel."""
        noise = rng.standard_normal((DESIGN_SIZE, DESIGN_SIZE, channels), dtype=np.float32)
        return noise if self.size == DESIGN_SIZE else noise[self._cell[:, None], self._cell]

    def waves(self, rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
        """Smooth noise [S, S]: a random grid of `cells` x `cells`, interpolated bicubically."""
        weights, nodes = _cubic_weights(self.size, cells), rng.standard_normal((cells, cells))
        return (weights @ nodes @ weights.T).astype(np.float32)


@lru_cache(maxsize=4)
def canvas_of(size: int) -> Canvas:
    """The canvas of a size, created once."""
    return Canvas(size)


@lru_cache(maxsize=32)
def _cubic_weights(size: int, cells: int) -> NDArray[np.float32]:
    """Weights [size, cells] of cubic convolution (a = -0.75, edges repeated) from `cells` nodes to pixels."""
    position = np.linspace(0, cells - 1, size)
    weights = np.zeros((size, cells), np.float32)
    for node in range(-2, cells + 2):
        distance = np.abs(position - node)
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
        weights[:, min(max(node, 0), cells - 1)] += np.where(
            distance <= 1, near, np.where(distance < 2, far, 0)
        )
    return weights


class _Brush(NamedTuple):
    """Inputs of a texture's pattern: rotated coordinates and noise [S, S], frequency and phases."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    frequency: float
    phases: tuple[float, float]
    grain: NDArray[np.float32]
    waves: Callable[[int], NDArray[np.float32]]


def _water(b: _Brush) -> Map:
    drift = 1.5 * np.sin(_TAU / 19 * b.x + b.phases[0])
    waves: Map = np.sin(_TAU / 6 * b.frequency * b.y + drift + b.phases[1])
    return 0.13 * waves + 0.03 * b.grain


def _rails(b: _Brush) -> Map:
    sleepers = np.sin(_TAU / 9 * b.frequency * b.x + b.phases[0]) > 0.75
    tracks: NDArray[np.bool_] = np.sin(_TAU / 22 * b.frequency * b.y + b.phases[1]) > 0.9
    ground: Map = 0.07 * b.grain - 0.22 * sleepers
    return ground + 0.18 * tracks


def _grass(b: _Brush) -> Map:
    step = max(1, round(len(b.grain) / DESIGN_SIZE))
    blades = b.grain + np.roll(b.grain, step, 0) + np.roll(b.grain, 2 * step, 0)
    return 0.09 * blades + 0.05 * b.waves(8)


def _brick(b: _Brush) -> Map:
    course = b.y / (5 * b.frequency)
    along = (b.x + 5 * (np.floor(course) % 2)) / (10 * b.frequency)
    mortar: NDArray[np.bool_] = (course % 1 < 0.25) | (along % 1 < 0.12)
    return 0.2 * mortar + 0.04 * b.grain


def _wood(b: _Brush) -> Map:
    veins = np.sin(_TAU / 5 * b.frequency * b.x + 1.2 * b.waves(5) + b.phases[0])
    return 0.10 * veins + 0.02 * b.grain


def _sky(b: _Brush) -> Map:
    return 0.07 * b.waves(5) + 0.1 * (b.y / DESIGN_SIZE - 0.5)


def _sand(b: _Brush) -> Map:
    return 0.06 * b.grain + 0.03 * b.waves(8)


def _asphalt(b: _Brush) -> Map:
    return 0.05 * b.grain


def _wall(b: _Brush) -> Map:
    return 0.04 * b.waves(4)


#: Colour and pattern, in the order of `STUFF_NAMES`.
_TEXTURES: tuple[tuple[tuple[float, float, float], Callable[[_Brush], Map]], ...] = (
    ((0.15, 0.35, 0.60), _water),
    ((0.42, 0.38, 0.35), _rails),
    ((0.25, 0.48, 0.18), _grass),
    ((0.58, 0.28, 0.22), _brick),
    ((0.50, 0.33, 0.17), _wood),
    ((0.60, 0.75, 0.92), _sky),
    ((0.78, 0.68, 0.45), _sand),
    ((0.30, 0.30, 0.32), _asphalt),
    ((0.75, 0.70, 0.66), _wall),
)


def paint_texture(rng: np.random.Generator, kind: int, canvas: Canvas) -> NDArray[np.float32]:
    """Paint one texture [S, S, 3] over the whole canvas, about 0 to 1."""
    colour, pattern = _TEXTURES[kind]
    angle = rng.uniform(-0.25, 0.25)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    brush = _Brush(
        x=cos * canvas.x + sin * canvas.y,
        y=cos * canvas.y - sin * canvas.x,
        frequency=rng.uniform(0.8, 1.25),
        phases=(rng.uniform(0, _TAU), rng.uniform(0, _TAU)),
        grain=canvas.grain(rng)[..., 0],
        waves=lambda cells: canvas.waves(rng, cells),
    )
    return jittered(rng, colour, 0.07) + pattern(brush).astype(np.float32)[..., None]


def jittered(rng: np.random.Generator, colour: ArrayLike, amount: float) -> NDArray[np.float32]:
    """A colour [3], shifted by up to `amount` in each channel."""
    return (np.asarray(colour) + rng.uniform(-amount, amount, 3)).astype(np.float32)
