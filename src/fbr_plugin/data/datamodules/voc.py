"""PASCAL VOC 2012."""

from pathlib import Path
from typing import Any, Literal

from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.instances.sources import ObjectMaps
from fbr_plugin.data.instances.voc import CLASSES
from fbr_plugin.data.readers.labels import ImageLabels, labels_from_pickle, labels_from_xml
from fbr_plugin.data.settings import Lists

VOC_CLASS_NAMES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


class VOCDataModule(LayoutDataModule):
    """PASCAL VOC 2012 with its augmented annotations.

    Args:
        root: folder `VOC2012`, which holds `JPEGImages`, `ImageSets/Segmentation` and the masks.
        lists: which images each stage takes, by file names in `ImageSets/Segmentation`.
        mask_dir: folder of masks in `root`: `SegmentationClassAug` or `SegmentationClass`.
        label_source: `npy` for the file known as `cls_labels.npy`, `xml` for `Annotations`, `masks`,
            or `none` for images without labels, such as those of the test list.
        label_file: the file that `npy` reads, relative to `root` or absolute.
        kwargs: pseudo labels, saliency maps, augmentation and loading.
    """

    class_names = VOC_CLASS_NAMES

    def __init__(
        self,
        root: str | Path,
        lists: Lists = Lists("train_aug", "val"),
        mask_dir: str = "SegmentationClassAug",
        label_source: Literal["npy", "xml", "masks", "none"] = "npy",
        label_file: str | Path = "cls_labels.npy",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, lists, mask_dir, **kwargs)
        self.label_source = label_source
        self.label_file = self.root / label_file

    def image_labels(self, ids: list[str]) -> ImageLabels:
        if self.label_source == "xml":
            return labels_from_xml(self.root / "Annotations", ids, self.class_names)
        return labels_from_pickle(self.label_file, self.num_classes)

    def true_instances(self, ids: list[str]) -> ObjectMaps:
        """The maps of objects, which belong to `SegmentationClass`, not to the augmented masks."""
        return ObjectMaps(self.object_dir, self.root / CLASSES, ids, self.num_classes)
