"""Your own images."""

from pathlib import Path
from typing import Any, Literal

from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.readers.labels import ImageLabels, labels_from_csv, read_lines
from fbr_plugin.data.settings import Lists


class FolderDataModule(LayoutDataModule):
    """Your own images in the folders of PASCAL VOC.

    `classes.txt` names the foreground classes, one per line, in the order of their numbers 1..C. Image labels
    come from `labels.csv` (header `id,<class>,...`, cells 0 or 1) or from the masks in `SegmentationClass`.

    Args:
        root: folder that holds `classes.txt`, `JPEGImages`, `ImageSets/Segmentation`, and labels or masks.
        lists: which images each stage takes, by file names in `ImageSets/Segmentation`.
        mask_dir: folder of masks in `root`, 0 = background, 1..C, 255 = ignore.
        label_source: `csv` or `masks`, or `none` for images without labels; None takes `csv` where
            `labels.csv` exists, else `masks`.
        kwargs: pseudo labels, saliency maps, augmentation and loading.
    """

    def __init__(
        self,
        root: str | Path,
        lists: Lists = Lists(),
        mask_dir: str = "SegmentationClass",
        label_source: Literal["csv", "masks", "none"] | None = None,
        **kwargs: Any,
    ) -> None:
        root = Path(root)
        self.class_names = tuple(read_lines(root / "classes.txt", "class name"))
        self.label_file = root / "labels.csv"
        found = "csv" if self.label_file.exists() else "masks"
        super().__init__(root, lists, mask_dir, **kwargs)
        self.label_source = label_source or found

    def image_labels(self, ids: list[str]) -> ImageLabels:
        return labels_from_csv(self.label_file, self.class_names)
