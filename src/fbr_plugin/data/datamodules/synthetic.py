"""The embedded scenes as a source of items and as a data module."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.scenes.shapes import CLASS_NAMES
from fbr_plugin.data.scenes.source import SyntheticScenes
from fbr_plugin.data.scenes.textures import DESIGN_SIZE
from fbr_plugin.data.settings import Loading
from fbr_plugin.data.transforms import eval_transform, shift_transform

SHIFT = 4  # pixels of augmentation at the design size


class SyntheticDataModule(WSSSDataModule):
    """Procedural scenes whose classes co-occur with a background texture.

    Five classes (boat, train, sheep, car, chair), each with a texture of its own (water, rails, grass, brick,
    wood). Nothing is downloaded. Validation, test and prediction run over the training images without
    augmentation, as the quality of seeds is a matter of the training set, unless `val_images` asks for
    fresh ones.

    Args:
        preset: `default`, `hard` (classes and textures nearly always together) or `control` (independent).
        num_images: number of training scenes.
        size: pixels of a side.
        val_images: fresh scenes for validation and test; 0 takes the training scenes.
        pseudo_label_dir: folder of pseudo labels `ID.png`, for a baseline that trains on them.
        saliency: whether the true foreground comes along as a saliency map, for a baseline that asks for one.
        loading: batches, processes and seed, which decides the scenes, too.
    """

    class_names = CLASS_NAMES

    def __init__(
        self,
        preset: Literal["default", "hard", "control"] = "default",
        num_images: int = 800,
        size: int = 64,
        val_images: int = 0,
        pseudo_label_dir: str | Path | None = None,
        saliency: bool = False,
        loading: Loading = Loading(eval_batch_size=50),
    ) -> None:
        super().__init__(loading)
        self.preset = preset
        self.num_images = num_images
        self.size = size
        self.val_images = val_images
        self.pseudo_label_dir = pseudo_label_dir
        self.saliency = saliency

    @cached_property
    def train_scenes(self) -> SyntheticScenes:
        """The training scenes, drawn once."""
        return SyntheticScenes(self.preset, self.num_images, self.size, self.loading.seed, 0, self.saliency)

    @cached_property
    def val_scenes(self) -> SyntheticScenes:
        """The scenes of validation and test, drawn once."""
        if self.val_images == 0:
            return self.train_scenes
        seed, first = self.loading.seed, self.num_images
        return SyntheticScenes(self.preset, self.val_images, self.size, seed, first, self.saliency)

    def dataset(self, stage: Stage) -> SegmentationDataset:
        if stage == "fit":
            transform = shift_transform(self.size, round(SHIFT * self.size / DESIGN_SIZE))
            return SegmentationDataset(self.train_scenes, transform, True, self.pseudo_label_dir)
        scenes = self.train_scenes if stage == "predict" else self.val_scenes
        return SegmentationDataset(scenes, eval_transform(), False, self.pseudo_label_dir)
