"""Synthetic scenes in which each class co-occurs with stuff of its own in the background."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.scenes.shapes import CLASS_NAMES, paint_object
from fbr_plugin.data.scenes.textures import DESIGN_SIZE, STUFF_NAMES, Canvas, canvas_of, paint_texture

_MAX_TIED = 3  # most class textures in a scene
_MIN_VISIBLE = 20  # a class with no more visible design pixels does not count as present
_MIN_GROUND = 30  # design pixels of its texture that an object needs to stand on it


@dataclass(frozen=True)
class ScenePreset:
    """Probabilities that classes occur with their stuff and distinctive parts.

    Args:
        p_co: probability that a present class comes with its stuff.
        p_stray: probability that an absent class's stuff appears.
        p_hide: probability that an object's distinctive part is hidden.
    """

    p_co: float
    p_stray: float
    p_hide: float


PRESETS = {
    "default": ScenePreset(p_co=0.85, p_stray=0.12, p_hide=0.15),
    "hard": ScenePreset(p_co=0.92, p_stray=0.08, p_hide=0.20),
    "control": ScenePreset(p_co=0.30, p_stray=0.30, p_hide=0.15),
}


class Scene(NamedTuple):
    """One scene of S x S pixels.

    Attributes:
        image: [S, S, 3] uint8.
        mask: [S, S] uint8, 0 = background, 1..5 = class, 255 = a class too occluded to count as present.
        instances: [S, S] uint8, 0 = no object of a present class, else 1.. in painting order.
        stuff: [S, S] uint8, 1 + index into `STUFF_NAMES`, also beneath the objects.
        label: [5] float32 in {0, 1}.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    stuff: NDArray[np.uint8]
    label: NDArray[np.float32]


def draw_scene(preset: ScenePreset, seed: int, index: int, size: int = DESIGN_SIZE) -> Scene:
    """Generate scene `index` of the stream `seed`, independently of all others.

    Args:
        preset: probabilities of co-occurrence.
        seed: seed of the stream.
        index: position in the stream.
        size: side length in pixels; a scene looks the same at every size.
    """
    rng, canvas = np.random.default_rng((seed, index)), canvas_of(size)
    classes = rng.choice(len(CLASS_NAMES), 1 if rng.random() < 0.65 else 2, replace=False).tolist()
    kinds = _pick_textures(rng, classes, preset)
    layout_seed = int(rng.integers(2**32))
    texture = _layout(layout_seed, kinds, canvas)
    design = texture if size == DESIGN_SIZE else _layout(layout_seed, kinds, canvas_of(DESIGN_SIZE))
    colours = np.zeros((size, size, 3), np.float32)
    for kind in kinds:
        region = texture == kind
        colours[region] = paint_texture(rng, kind, canvas)[region]

    mask, instances = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    objects = [kind for kind in classes for _ in range(1 + (rng.random() < 0.2))]
    for instance, kind in enumerate(objects, start=1):
        inside, paint = paint_object(rng, kind, _place(rng, design == kind), preset.p_hide, canvas)
        colours[inside] = paint[inside]
        mask[inside], instances[inside] = kind + 1, instance

    area = np.bincount(mask.ravel(), minlength=len(CLASS_NAMES) + 1)[1:] * (DESIGN_SIZE / size) ** 2
    label = (area > _MIN_VISIBLE).astype(np.float32)
    occluded = (mask > 0) & (label[mask.astype(np.intp) - 1] == 0)
    mask[occluded], instances[occluded] = 255, 0
    colours = colours * rng.uniform(0.85, 1.15) + 0.015 * canvas.grain(rng, 3)
    return Scene((colours.clip(0, 1) * 255 + 0.5).astype(np.uint8), mask, instances, texture + 1, label)


def _pick_textures(rng: np.random.Generator, classes: list[int], preset: ScenePreset) -> list[int]:
    """Choose two to four textures: of present classes, of absent ones that stray, then neutral ones."""
    tied = [kind for kind in classes if rng.random() < preset.p_co]
    tied += [k for k in range(len(CLASS_NAMES)) if k not in classes and rng.random() < preset.p_stray]
    kinds = tied[:_MAX_TIED]
    neutral = rng.permutation(np.arange(len(CLASS_NAMES), len(STUFF_NAMES))).tolist()
    while len(kinds) < 2 or (len(kinds) < 4 and rng.random() < 0.35):
        kinds.append(neutral.pop())
    return kinds


def _layout(seed: int, kinds: list[int], canvas: Canvas) -> NDArray[np.uint8]:
    """A map [S, S] of textures in wavy Voronoi regions, wider than high."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(4, DESIGN_SIZE - 4, (len(kinds), 2, 1, 1)).astype(np.float32)
    x = canvas.x + 3 * canvas.waves(rng, 5)
    y = canvas.y + 3 * canvas.waves(rng, 5)
    nearest: NDArray[np.intp] = ((0.7 * (x - points[:, 0])) ** 2 + (1.3 * (y - points[:, 1])) ** 2).argmin(0)
    return np.asarray(kinds, np.uint8)[nearest]


def _place(rng: np.random.Generator, ground: NDArray[np.bool_]) -> tuple[float, float]:
    """The centre (x, y) of an object: on its texture [64, 64] if there is enough of it, else anywhere."""
    spots = np.flatnonzero(ground)
    if len(spots) > _MIN_GROUND:
        row, column = divmod(int(spots[rng.integers(len(spots))]), DESIGN_SIZE)
        x, y = column + rng.uniform(-6, 6), row + rng.uniform(-6, 6)
    else:
        x, y = rng.uniform(10, DESIGN_SIZE - 10, 2)
    return float(np.clip(x, 9, DESIGN_SIZE - 9)), float(np.clip(y, 9, DESIGN_SIZE - 9))
