"""Your own images of one class each."""

from pathlib import Path

import numpy as np

from fbr_plugin.data.readers.boxes import object_boxes
from fbr_plugin.data.readers.labels import labels_from_csv, read_class_names, read_ids, read_objects
from fbr_plugin.data.readers.wsol.layout import Split, only_class, split_from_xml
from fbr_plugin.data.readers.wsol.masks import ClassMask, find_object_masks
from fbr_plugin.errors import InputError


class FolderLayout:
    """Your own images in the folders of VOC, with `classes.txt`, and `labels.csv` if few images have boxes.

    Args:
        root: folder that holds `JPEGImages`, `ImageSets/Main`, `Annotations/ID.xml` and these files.
        train_list: list of training ids, a file name in `ImageSets/Main`.
        test_list: list of the ids for evaluation.
        box_origin: number of an image's first pixel in the XML files.
        mask_dir: folder of masks `ID.png` in VOC's format; None for no masks.
    """

    def __init__(
        self, root: Path, train_list: str, test_list: str, box_origin: int, mask_dir: Path | None
    ) -> None:
        self.root = root
        self.train_list = train_list
        self.test_list = test_list
        self.box_origin = box_origin
        self.mask_dir = mask_dir
        self.class_names = read_class_names(root / "classes.txt")

    def split(self, training: bool, scored: bool) -> Split:
        split = self._without_masks(training, scored)
        if self.mask_dir is None or not scored:
            return split
        return split._replace(masks=find_object_masks(self.mask_dir, split.classes, ClassMask))

    def _without_masks(self, training: bool, scored: bool) -> Split:
        chosen = (self.train_list if training else self.test_list).removesuffix(".txt")
        ids = read_ids(self.root / "ImageSets" / "Main" / f"{chosen}.txt")
        images, annotations, table = (self.root / n for n in ("JPEGImages", "Annotations", "labels.csv"))
        if not table.exists():
            return split_from_xml(images, annotations, ids, self.class_names, self.box_origin, scored)
        labels = labels_from_csv(table, self.class_names)
        if missing := [name for name in ids if name not in labels]:
            raise InputError(
                f"{len(missing)} ids of {chosen} have no row in {table}, the first is {missing[0]}"
            )
        names = np.array(self.class_names)
        found = {name: names[labels[name] > 0].tolist() for name in ids}
        classes = {name: only_class(table, name, found[name], self.class_names) for name in ids}
        paths = {name: annotations / f"{name}.xml" for name in ids if scored}
        boxes = {
            name: object_boxes(path, read_objects(path), self.box_origin) for name, path in paths.items()
        }
        return Split(images, classes, boxes if scored else None)
