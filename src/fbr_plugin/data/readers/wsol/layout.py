"""What the layouts of localization data sets have in common: images of one class each, with their truth."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.boxes import Boxes, object_boxes
from fbr_plugin.data.readers.labels import read_objects
from fbr_plugin.data.readers.limits import check_name
from fbr_plugin.data.readers.wsol.masks import ObjectMasks
from fbr_plugin.errors import InputError, short


class Split(NamedTuple):
    """Images of training or of evaluation.

    Attributes:
        image_dir: folder of the images.
        classes: 0-based class of each id, in the order of the list.
        boxes: boxes of each id; None if they are not needed, or if there are none.
        masks: masks of each id's objects, likewise.
    """

    image_dir: Path
    classes: Mapping[str, int]
    boxes: Boxes | None = None
    masks: ObjectMasks | None = None


class Layout(Protocol):
    """A folder of images of one class each."""

    class_names: tuple[str, ...]

    def split(self, training: bool, scored: bool) -> Split:
        """The images of training or of evaluation, with boxes and masks if they are scored."""


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


def split_from_xml(
    images: Path,
    annotations: Path,
    ids: Sequence[str],
    class_names: tuple[str, ...],
    origin: int,
    scored: bool,
) -> Split:
    """A split whose classes and boxes come from VOC's XML.

    Args:
        images: folder of the images.
        annotations: folder of `ID.xml`.
        ids: images of the split.
        class_names: names of the classes in the order of their numbers.
        origin: number of an image's first pixel in the files.
        scored: whether to read the boxes.
    """
    classes, boxes = {}, {}
    for name in ids:
        path = annotations / f"{name}.xml"
        objects = read_objects(path)
        classes[name] = only_class(
            path, name, {element.findtext("name", "") for element in objects}, class_names
        )
        if scored:
            boxes[name] = object_boxes(path, objects, origin)
    return Split(images, classes, boxes if scored else None)


def only_class(where: object, name: str, found: Collection[str], class_names: tuple[str, ...]) -> int:
    """The 0-based class of an image from the classes that a file names, which must be one known class."""
    if len(found) != 1:
        raise InputError(
            f"{where}: {short(name)} holds the classes {short(sorted(found))}, but localization takes "
            "images of one class: remove it from the list"
        )
    (only,) = found
    if only not in class_names:
        raise InputError(
            f"{where}: {short(name)} holds the class {short(repr(only))}, but the classes are "
            f"{short(list(class_names))}: correct the name, or add the class"
        )
    return class_names.index(only)


def class_number(where: object, name: str, number: object, num_classes: int) -> int:
    """The 0-based class of an image from its number 1..C in a file."""
    text = str(number)
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= num_classes):
        raise InputError(
            f"{where} gives {short(name)} the class {short(text)}, but the classes are 1 to {num_classes}: "
            "copy it again"
        )
    return int(text) - 1


def without_suffix(where: object, file: object) -> str:
    """The id of an image from the path of its file in a list; raise where this leads to another folder."""
    if not isinstance(file, str):
        raise InputError(f"{where} has {short(repr(file))} for the name of an image: copy it again")
    return check_name(where, file.rpartition(".")[0])


def named_by_folder(where: object, folders: Sequence[str], numbers: Sequence[int]) -> tuple[str, ...]:
    """Class names from the folders of images and their 0-based class numbers; `where` names the list."""
    names: dict[int, str] = {}
    for folder, number in zip(folders, numbers, strict=True):
        if names.setdefault(number, folder) != folder:
            raise InputError(
                f"{where} gives the class {number} (from 0) to images in {short(names[number])} "
                f"and in {short(folder)}: a class has one folder; copy the list again"
            )
    if sorted(names) != list(range(len(names))):
        raise InputError(
            f"{where} has images of the classes {short(sorted(names))}, which should be 0 to "
            f"{len(names) - 1} without a gap: copy the list again"
        )
    return tuple(names[number] for number in range(len(names)))
