"""Id lists, names of classes and image labels in the formats in common use."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, read_once, read_table, read_text
from fbr_plugin.data.readers.images import IGNORE, read_mask
from fbr_plugin.data.readers.limits import check_name
from fbr_plugin.data.readers.pickles import load_restricted
from fbr_plugin.errors import InputError, MissingFileError, short

ImageLabels = Mapping[str, NDArray[np.float32]]


@read_once
def read_lines(path: Path, what: str) -> list[str]:
    """The non-empty lines of a text file; `what` names them in errors."""
    if not path.parent.is_dir():
        raise MissingFileError(f"the folder {path.parent} does not exist: it should hold {path.name}")
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: create it with one {what} per line")
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise InputError(f"{path} is empty: write one {what} per line into it")
    return lines


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names of the foreground classes in a text file, one per line."""
    return check_class_names(read_lines(path, "class name"), path)


def check_class_names(names: Sequence[str], where: object) -> tuple[str, ...]:
    """Raise if foreground classes share a name, or if one is the background; `where` names their origin."""
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(
            f"{where} names the class {short(repr(twice[0]))} twice: each class needs a name of its own"
        )
    for name in names:
        if name.lower() in ("background", "__background__"):
            raise InputError(
                f"{where} names {name!r} as a class: leave it out, since the names are of the foreground "
                "classes 1..C, and 0 is the background in any case"
            )
    return tuple(names)


def read_classes(
    folder: Path, masks: Sequence[Path], num_classes: int | None, class_names: list[str] | None
) -> tuple[tuple[str, ...], str]:
    """Names of background and foreground classes, and where they come from.

    Args:
        folder: folder of the masks, beside which classes.txt may lie.
        masks: files whose largest value is the number of classes that is named nowhere; none: 254 classes.
        num_classes: number of foreground classes; None looks for it.
        class_names: names of the foreground classes; None looks for them.
    """
    listed, source = folder.parent / "classes.txt", "class_names"
    if class_names is not None:
        check_class_names(class_names, source)
    elif listed.is_file():
        class_names, source = [*read_class_names(listed)], str(listed)
    if class_names is None:
        source = "num_classes"
        if num_classes is None:
            source = "the largest value in the masks (give num_classes if there are more)"
            values = (int((mask % IGNORE).max()) for mask in map(_any_mask, masks))
            num_classes = max(1, max(values, default=IGNORE - 1))
        elif num_classes < 1:
            raise InputError(f"num_classes must be at least 1, got {num_classes}")
        class_names = [f"class {index + 1}" for index in range(num_classes)]
    elif num_classes not in (None, len(class_names)):
        raise InputError(f"num_classes is {num_classes}, but {source} names {len(class_names)} classes")
    return ("background", *class_names), source


def _any_mask(path: Path) -> NDArray[np.uint8]:
    """Read a mask with any number of classes."""
    return read_mask(path, IGNORE - 1)


def read_ids(path: Path) -> list[str]:
    """Ids from a list file, which holds ids or pairs `/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`.

    An id that is listed again is left out, with a warning.
    """
    lines = read_lines(path, "image id")
    names = [PurePosixPath(line.split()[0]) for line in lines]
    first: dict[PurePosixPath, str] = {}
    for name, line in zip(names, lines, strict=True):
        if (other := first.setdefault(name, line)) != line:
            raise InputError(
                f"{path}: {short(repr(other))} and {short(repr(line))} both begin with the id {short(name)}: "
                "ids must not contain spaces"
            )
    ids = [name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name for name in names]
    counts = Counter(check_name(path, name) for name in ids)
    if again := [name for name, count in counts.items() if count > 1]:
        warnings.warn(
            f"{path} lists {len(again)} ids more than once, the first is {again[0]}: each is taken once",
            stacklevel=2,
        )
    return list(counts)


def without_class(labels: ImageLabels, ids: Iterable[str]) -> list[str]:
    """The ids whose image label has no class."""
    return [name for name in ids if not labels[name].any()]


def labels_of_mask(mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.float32]:
    """Image labels [C] in {0, 1} of a mask [H, W]."""
    return (np.bincount(mask.ravel(), minlength=IGNORE + 1)[1 : num_classes + 1] > 0).astype(np.float32)


def labels_from_csv(path: Path, class_names: Sequence[str]) -> ImageLabels:
    """Image labels from a table with the header `id,<class>,...`, columns in any order."""
    if not path.is_file():
        raise MissingFileError(
            f"{path} does not exist: write a table with the header id,{','.join(class_names)}"
        )
    header, *rows = _rows(path) or [[]]
    if header[:1] != ["id"] or sorted(header[1:]) != sorted(class_names):
        raise InputError(
            f"{path} has the columns {short(header)}, but the class list asks for id and "
            f"{short(list(class_names))}: missing {short(sorted({*class_names} - {*header}))}, "
            f"unknown {short(sorted({*header} - {*class_names, 'id'}))}; make them agree"
        )
    place = {name: column for column, name in enumerate(header)}
    order = [place[name] for name in class_names]
    labels: dict[str, NDArray[np.float32]] = {}
    for row in rows:
        if len(row) != len(header) or not {*row[1:]} <= {"0", "1"}:
            raise InputError(
                f"{path}: the row {short(','.join(row))} needs 0 or 1 in each of {len(class_names)} columns"
            )
        label = np.array([row[column] for column in order], np.float32)
        if not np.array_equal(labels.setdefault(row[0], label), label):
            raise InputError(f"{path} has two rows of {short(row[0])} that differ: leave one")
    return labels


_rows = read_once(read_table)


@read_once
def labels_from_pickle(path: Path, num_classes: int) -> ImageLabels:
    """Image labels from a pickled dict id -> [C], with keys like `2007_000032` or 2007000032."""
    content = load_restricted(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}: it should hold a dict id -> labels")
    labels = {}
    for key, value in content.items():
        try:
            label = np.asarray(value)
        except ValueError:  # lists of different lengths
            label = np.asarray(None)
        if label.dtype.kind not in "biuf":
            raise InputError(
                f"{path}: the labels of {short(key)} are no numbers: give {num_classes} of 0 or 1"
            )
        if label.shape != (num_classes,):
            raise InputError(
                f"{path}: the labels of {short(key)} have the shape {label.shape} instead of ({num_classes},)"
            )
        if not np.isin(label, (0, 1)).all():
            raise InputError(f"{path}: the labels of {short(key)} are not all 0 or 1: correct them")
        labels[_voc_id(key)] = label.astype(np.float32)
    return labels


def _voc_id(key: object) -> str:
    """VOC's id from a key: 2007000032 becomes 2007_000032."""
    text = str(key)
    return f"{text[:4]}_{text[4:]}" if text.isdigit() and len(text) == 10 else text


def read_objects(path: Path) -> list[ElementTree.Element]:
    """The objects in an annotation in VOC's XML."""
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: it should hold the image's labels and boxes")
    try:
        return ElementTree.parse(path).getroot().findall("object")
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two of unknown encodings
        raise InputError(f"{path} is not valid XML ({short(error)}): copy it again") from error


@read_once
def _classes(path: Path) -> set[str]:
    """The names of the classes in an annotation in VOC's XML."""
    return {element.findtext("name", "") for element in read_objects(path)}


def labels_from_xml(folder: Path, ids: Iterable[str], class_names: Sequence[str]) -> ImageLabels:
    """Image labels from the objects in VOC's `ID.xml`."""
    index = {name: i for i, name in enumerate(class_names)}
    labels = {}
    for name in ids:
        path = folder / f"{name}.xml"
        found = _classes(path)
        if unknown := found - {*index}:
            raise InputError(
                f"{path} holds {short(sorted(unknown))}: the classes are {short(list(class_names))}"
            )
        labels[name] = np.zeros(len(index), np.float32)
        labels[name][[index[name] for name in found]] = 1
    return labels
