"""The synthetic scenes as a source of items."""

from typing import Any

import numpy as np

from fbr_plugin.data.scenes.scene import PRESETS, Scene, ScenePreset, draw_scene
from fbr_plugin.data.scenes.shapes import CLASS_NAMES
from fbr_plugin.errors import InputError, check_choice

SMALLEST = 16  # side in pixels at which objects are still of several pixels


class SyntheticScenes:
    """Consecutive scenes of a stream, generated at once and kept in memory; an item is a dict of arrays.

    Args:
        preset: name of a preset (`default`, `hard`, `control`), or your own probabilities.
        num_images: number of scenes.
        size: side length in pixels.
        seed: seed of the stream of scenes.
        first: index of the first scene, so that sets from one stream need not overlap.
        saliency: whether items hold the true foreground as a saliency map.

    Attributes:
        instances: whether items hold their true instances, those of classes that count as present.
    """

    num_classes = len(CLASS_NAMES)

    def __init__(
        self,
        preset: str | ScenePreset = "default",
        num_images: int = 800,
        size: int = 64,
        seed: int = 0,
        first: int = 0,
        saliency: bool = False,
    ) -> None:
        if isinstance(preset, str):
            check_choice("preset", preset, PRESETS)
            preset = PRESETS[preset]
        if size < SMALLEST or num_images < 1:
            raise InputError(
                f"scenes need a size of at least {SMALLEST} pixels and at least 1 image, got size={size} and "
                f"num_images={num_images}"
            )
        self.first = first
        self.saliency = saliency
        self.instances = False
        self.scenes: list[Scene] = [draw_scene(preset, seed, first + i, size) for i in range(num_images)]

    @property
    def ids(self) -> list[str]:
        """The scenes' names."""
        return [f"scene_{self.first + index:06d}" for index in range(len(self.scenes))]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"id": f"scene_{self.first + index:06d}", **self.scenes[index]._asdict()}
        objects = item.pop("instances")
        if self.instances:
            numbers, first = np.unique(objects, return_index=True)
            labels = item["mask"].flat[first[numbers > 0]].astype(np.int64)
            item["instances"] = {"masks": objects == numbers[numbers > 0, None, None], "labels": labels}
        if self.saliency:
            item["saliency"] = (item["mask"] > 0).astype(np.float32)
        return item
