"""Folder layouts of localization data sets, each read by one class from the data set's own lists."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.boxes import Boxes, check_boxes, object_boxes
from fbr_plugin.data.readers.labels import labels_from_csv, read_ids, read_lines, read_objects
from fbr_plugin.errors import InputError


class Split(NamedTuple):
    """Images of training or of evaluation.

    Attributes:
        image_dir: folder of the images.
        classes: 0-based class of each id, in the order of the list.
        boxes: boxes of each id; None if they are not needed.
    """

    image_dir: Path
    classes: Mapping[str, int]
    boxes: Boxes | None


class Layout(Protocol):
    """A folder of images of one class each."""

    class_names: tuple[str, ...]

    def split(self, training: bool, with_boxes: bool) -> Split: ...


class OneClass(Mapping[str, NDArray[np.float32]]):
    """Image labels [C] with a single 1, made from class numbers on access, so that a million stay small.

    Args:
        classes: 0-based class of each id.
        num_classes: C.
    """

    def __init__(self, classes: Mapping[str, int], num_classes: int) -> None:
        self.classes = classes
        self.num_classes = num_classes

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        label = np.zeros(self.num_classes, np.float32)
        label[self.classes[name]] = 1
        return label

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)


class FolderLayout:
    """Your own images in the folders of VOC, with `classes.txt`, and `labels.csv` if few images have boxes.

    Args:
        root: folder that holds `JPEGImages`, `ImageSets/Main`, `Annotations/ID.xml` and these files.
        train_list: list of training ids, a file name in `ImageSets/Main`.
        test_list: list of the ids for evaluation.
        box_origin: number of an image's first pixel in the XML files.
    """

    def __init__(self, root: Path, train_list: str, test_list: str, box_origin: int) -> None:
        self.root = root
        self.train_list = train_list
        self.test_list = test_list
        self.box_origin = box_origin
        self.class_names = tuple(read_lines(root / "classes.txt", "class name"))

    def split(self, training: bool, with_boxes: bool) -> Split:
        chosen = (self.train_list if training else self.test_list).removesuffix(".txt")
        ids = read_ids(self.root / "ImageSets" / "Main" / f"{chosen}.txt")
        images, annotations, table = (self.root / n for n in ("JPEGImages", "Annotations", "labels.csv"))
        if not table.exists():
            return split_from_xml(images, annotations, ids, self.class_names, self.box_origin, with_boxes)
        labels = labels_from_csv(table, self.class_names)
        if missing := [name for name in ids if name not in labels]:
            raise InputError(
                f"{len(missing)} ids of {chosen} have no row in {table}, the first is {missing[0]}"
            )
        names = np.array(self.class_names)
        classes = {name: only_class(name, names[labels[name] > 0].tolist(), self.class_names) for name in ids}
        paths = {name: annotations / f"{name}.xml" for name in ids if with_boxes}
        boxes = {
            name: object_boxes(path, read_objects(path), self.box_origin) for name, path in paths.items()
        }
        return Split(images, classes, boxes if with_boxes else None)


class ILSVRCLayout:
    """ILSVRC 2012 in the layout of its localization challenge; classes are WordNet ids in alphabetical order.

    Args:
        root: folder `ILSVRC`, which holds `Data`, `Annotations` and `ImageSets`, each with `CLS-LOC`.
    """

    def __init__(self, root: Path) -> None:
        self.images, self.annotations, self.lists = (
            root / name / "CLS-LOC" for name in ("Data", "Annotations", "ImageSets")
        )
        self.train_ids = [line.split()[0] for line in read_lines(self.lists / "train_cls.txt", "wnid/id")]
        self.class_names = tuple(sorted({name.partition("/")[0] for name in self.train_ids}))

    def split(self, training: bool, with_boxes: bool) -> Split:
        if training:
            index = {name: i for i, name in enumerate(self.class_names)}
            classes = {name: index[name.partition("/")[0]] for name in self.train_ids}
            return Split(self.images / "train", classes, None)
        ids = read_ids(self.lists / "val.txt")
        return split_from_xml(
            self.images / "val", self.annotations / "val", ids, self.class_names, 0, with_boxes
        )


class CUBLayout:
    """CUB-200-2011.

    Args:
        root: folder `CUB_200_2011`, which holds `images`, `images.txt` and the other lists.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.class_names = tuple(name for _, name in self._table("classes.txt", 2))

    def split(self, training: bool, with_boxes: bool) -> Split:
        chosen = {key for key, side in self._table("train_test_split.txt", 2) if (side == "1") == training}
        names = {key: path.rpartition(".")[0] for key, path in self._table("images.txt", 2) if key in chosen}
        numbers = dict(self._table("image_class_labels.txt", 2))
        classes = {name: int(numbers[key]) - 1 for key, name in names.items()}
        if not with_boxes:
            return Split(self.root / "images", classes, None)
        rows = {key: np.array(row, np.float64) for key, *row in self._table("bounding_boxes.txt", 5)}
        if missing := [name for key, name in names.items() if key not in rows]:
            raise InputError(f"{missing[0]} has no box in {self.root / 'bounding_boxes.txt'}: copy it again")
        return Split(
            self.root / "images", classes, {name: self._box(name, rows[key]) for key, name in names.items()}
        )

    @staticmethod
    def _box(name: str, row: NDArray[np.float64]) -> NDArray[np.int64]:
        """Boxes [1, 4] of a row x, y, width, height; as in published code, x + width is the last pixel."""
        x, y, width, height = row.round().astype(np.int64)
        return check_boxes(name, np.array([[x, y, x + width, y + height]]))

    def _table(self, file: str, columns: int) -> list[list[str]]:
        rows = [line.split() for line in read_lines(self.root / file, "row")]
        if wrong := [row for row in rows if len(row) != columns]:
            raise InputError(
                f"{self.root / file}: the row {' '.join(wrong[0])} should have {columns} columns"
            )
        return rows


def split_from_xml(
    images: Path,
    annotations: Path,
    ids: list[str],
    class_names: tuple[str, ...],
    origin: int,
    with_boxes: bool,
) -> Split:
    """A split whose classes and boxes come from VOC's XML.

    Args:
        images: folder of the images.
        annotations: folder of `ID.xml`.
        ids: images of the split.
        class_names: names of the classes in the order of their numbers.
        origin: number of an image's first pixel in the files.
        with_boxes: whether to read the boxes.
    """
    classes, boxes = {}, {}
    for name in ids:
        path = annotations / f"{name}.xml"
        objects = read_objects(path)
        classes[name] = only_class(name, {element.findtext("name", "") for element in objects}, class_names)
        if with_boxes:
            boxes[name] = object_boxes(path, objects, origin)
    return Split(images, classes, boxes if with_boxes else None)


def only_class(name: str, found: Collection[str], class_names: tuple[str, ...]) -> int:
    """The 0-based class of an image from the classes found in it, which must be one known class."""
    if len(found) != 1:
        raise InputError(
            f"{name} holds the classes {sorted(found)}, but localization takes images of one class: "
            "remove it from the list"
        )
    (only,) = found
    if only not in class_names:
        raise InputError(f"{name} holds the class {only!r}, but the classes are {list(class_names)}")
    return class_names.index(only)
