"""Your own images."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.readers.files import find_file
from fbr_plugin.data.readers.images import read_mask
from fbr_plugin.data.readers.labels import (
    ImageLabels,
    labels_from_csv,
    labels_of_mask,
    read_class_names,
    read_lines,
)
from fbr_plugin.data.readers.stuff import StuffMaps
from fbr_plugin.data.settings import Lists
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.stuff import StuffTable


class FolderDataModule(LayoutDataModule):
    """Your own images in the folders of PASCAL VOC.

    `classes.txt` names the foreground classes, one per line, in the order of their numbers 1..C. Image labels
    come from `labels.csv` (header `id,<class>,...`, cells 0 or 1) or from the masks in `SegmentationClass`.
    Maps of the stuff around the objects, such as grass and sky, tell where false positives lie; `stuff.txt`
    names the stuff, one per line, in the order of its numbers 1..S.

    Args:
        root: folder that holds `classes.txt`, `JPEGImages`, `ImageSets/Segmentation`, and labels or masks.
        lists: which images each stage takes, by file names in `ImageSets/Segmentation`.
        mask_dir: folder of masks in `root`, 0 = background, 1..C, 255 = ignore.
        label_source: `csv` or `masks`, or `none` for images without labels; None takes `csv` where
            `labels.csv` exists, else `masks`.
        stuff_dir: folder of maps of stuff `ID.png` in `root`, 0 = none, 1..S, read in validation and test.
        kwargs: pseudo labels, saliency maps, augmentation and loading.
    """

    def __init__(
        self,
        root: str | Path,
        lists: Lists = Lists(),
        mask_dir: str = "SegmentationClass",
        label_source: Literal["csv", "masks", "none"] | None = None,
        stuff_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        root = Path(root)
        self.class_names = read_class_names(root / "classes.txt")
        self.label_file = root / "labels.csv"
        found = "csv" if self.label_file.exists() else "masks"
        super().__init__(root, lists, mask_dir, **kwargs)
        self.label_source = label_source or found
        self.stuff_dir = None if stuff_dir is None else root / stuff_dir
        self.stuff_names = tuple(read_lines(root / "stuff.txt", "kind of stuff")) if self.stuff_dir else ()

    def image_labels(self, ids: list[str]) -> ImageLabels:
        return labels_from_csv(self.label_file, self.class_names)

    def source(self, stage: Stage) -> LayoutSource:
        source = super().source(stage)
        if stage in ("validate", "test") and self.stuff_dir is not None:
            source.stuff = StuffMaps(self.stuff_dir, source.ids, self.stuff_names)
        return source

    def stuff_table(self) -> StuffTable | None:
        """The stuff of the list `val`, and the classes with which it co-occurs there."""
        return self._stuff_table

    @cached_property
    def _stuff_table(self) -> StuffTable | None:
        source = self.source("test")
        if source.stuff is None:
            return None
        labels = source.labels
        if labels is None:
            paths = {name: find_file(self.mask_dir, name) for name in source.ids}
            count = self.num_classes
            labels = {name: labels_of_mask(read_mask(path, count), count) for name, path in paths.items()}
        return source.stuff.table(labels)
