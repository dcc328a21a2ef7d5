"""The data module of the synthetic scenes."""

from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.instances.sources import TruthStages
from fbr_plugin.data.scenes.shapes import CLASS_NAMES
from fbr_plugin.data.scenes.source import SyntheticScenes
from fbr_plugin.data.scenes.textures import DESIGN_SIZE, STUFF_NAMES
from fbr_plugin.data.settings import Loading
from fbr_plugin.data.transforms import eval_transform, shift_transform
from fbr_plugin.errors import check_choice
from fbr_plugin.stuff import StuffTable

SHIFT = 4  # pixels of augmentation at the design size


class SyntheticDataModule(WSSSDataModule):
    """Synthetic scenes whose classes co-occur with stuff in the background.

    There are five classes (boat, train, sheep, car, chair), each with stuff of its own (water, rails, grass,
    brick, wood). Nothing is downloaded. Validation, test and prediction use the training images without
    augmentation, because seeds are made and judged on the training set, unless `val_images` asks for fresh
    ones.

    Args:
        preset: `default`, `hard` (classes and their stuff nearly always together) or `control` (independent).
        num_images: number of training scenes.
        size: side length in pixels.
        val_images: number of fresh scenes for validation and test; 0 uses the training scenes.
        pseudo_label_dir: folder of pseudo labels `ID.png`, for a baseline that trains on them.
        saliency: whether to add the true foreground as a saliency map, for a baseline that trains on one.
        instances: stages with true instances: `none`, `eval` (validation and test) or `all`.
        pseudo_instance_dir: folder of pseudo instances `ID.json`, which take the place of true ones in
            training.
        loading: batch sizes, worker processes and seed, which also determines the scenes.
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
        instances: TruthStages = "none",
        pseudo_instance_dir: str | Path | None = None,
        loading: Loading = Loading(eval_batch_size=50),
    ) -> None:
        super().__init__(loading)
        check_choice("instances", instances, TruthStages)
        self.preset = preset
        self.num_images = num_images
        self.size = size
        self.val_images = val_images
        self.pseudo_label_dir = pseudo_label_dir
        self.saliency = saliency
        self.instances = instances
        self.pseudo_instance_dir = pseudo_instance_dir

    @cached_property
    def train_scenes(self) -> SyntheticScenes:
        """The training scenes, generated once."""
        return SyntheticScenes(self.preset, self.num_images, self.size, self.loading.seed, 0, self.saliency)

    @cached_property
    def val_scenes(self) -> SyntheticScenes:
        """The scenes of validation and test, generated once."""
        if self.val_images == 0:
            return self.train_scenes
        seed, first = self.loading.seed, self.num_images
        return SyntheticScenes(self.preset, self.val_images, self.size, seed, first, self.saliency)

    def stuff_table(self) -> StuffTable:
        """The stuff of the scenes: each class co-occurs with its own, by design."""
        return StuffTable(STUFF_NAMES, torch.eye(self.num_classes, len(STUFF_NAMES), dtype=torch.bool))

    def dataset(self, stage: Stage) -> SegmentationDataset:
        scenes = copy(self.train_scenes if stage in ("fit", "predict") else self.val_scenes)
        scenes.instances = self.reads_truth(stage)
        if stage == "fit":
            transform = shift_transform(self.size, round(SHIFT * self.size / DESIGN_SIZE))
            pseudo = self.pseudo_instances(stage, scenes.ids)
            return SegmentationDataset(
                scenes, transform, True, self.pseudo_label_dir, pseudo_instances=pseudo
            )
        return SegmentationDataset(scenes, eval_transform(), False, self.pseudo_label_dir)
