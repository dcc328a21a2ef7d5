"""The classes of images, by their names, from the files in which labels circulate."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, read_table
from fbr_plugin.data.readers.images import read_mask
from fbr_plugin.data.readers.instances import read_annotations
from fbr_plugin.data.readers.labels import labels_of_mask, read_objects
from fbr_plugin.errors import InputError, MissingFileError, short

Kind = Literal["masks", "xml", "coco", "csv", "folders"]
"""Masks `ID.png`, annotations `ID.xml`, COCO's JSON, a table, and a folder of photos for each class."""

Classes = dict[str, list[str]]
"""The names of the classes in each image, by its id."""

_IDS = {"id", "image", "image_id", "image_name", "img", "file", "file_name", "filename", "name", "path"}
_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


def read_classes_of_images(
    kind: Kind, path: Path, class_names: Sequence[str] | None
) -> tuple[Classes, list[str]]:
    """Read the classes of images.

    Args:
        kind: what the path holds.
        path: the file or folder.
        class_names: names of the classes in their order, which masks need; None takes those that are found.

    Returns:
        The classes of each image, and the names of all classes: those given, or those found, in COCO's JSON
        and in the columns of a table in their order, otherwise sorted.

    Raises:
        ValueError: the content is not of that kind, or holds a class that is not among `class_names`.
        FileNotFoundError: there is no such file or folder.
    """
    if not path.exists():
        raise MissingFileError(f"{path} does not exist: name the {_WHAT[kind]}")
    if kind == "masks":
        found, names = _from_masks(path, class_names), list(class_names or ())
    else:
        found, names = _READERS[kind](path)
    if not found:
        raise InputError(f"{path} holds no image: name the {_WHAT[kind]}")
    known = list(class_names) if class_names is not None else names
    listed = {*known}
    for name, classes in found.items():
        if unknown := [each for each in classes if each not in listed]:
            raise InputError(
                f"{path}: the image {short(name)} is of the class {short(repr(unknown[0]))}, but the classes "
                f"are {short(known)}: correct the name, or add the class"
            )
    return found, known


_WHAT: Mapping[Kind, str] = {
    "masks": "folder of masks ID.png",
    "xml": "folder of annotations ID.xml",
    "coco": "JSON file of COCO's annotations",
    "csv": "table of images and classes",
    "folders": "folder that holds a folder of photos for each class",
}


def _files(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder with one of some suffixes, sorted."""
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: name the folder that holds it")
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.name[0] != ".")


def _from_masks(folder: Path, class_names: Sequence[str] | None) -> Classes:
    if class_names is None:
        raise InputError(
            "masks hold numbers, no names: write classes.txt beside the table, or give --class_names"
        )
    found: Classes = {}
    for path in tqdm(_files(folder, ".png"), "read", disable=None):
        label = labels_of_mask(read_mask(path, len(class_names)), len(class_names))
        found[path.stem] = [each for each, present in zip(class_names, label, strict=True) if present]
    return found


def _from_xml(folder: Path) -> tuple[Classes, list[str]]:
    found = {
        path.stem: list(dict.fromkeys(each.findtext("name", "").strip() for each in read_objects(path)))
        for path in _files(folder, ".xml")
    }
    if unnamed := [name for name, classes in found.items() if "" in classes]:
        raise InputError(f"{folder / unnamed[0]}.xml has an object without a name: correct it")
    return found, _sorted(found)


def _from_coco(path: Path) -> tuple[Classes, list[str]]:
    file = read_annotations(path, outlines=False, categories=None)
    found = {
        name: list(
            dict.fromkeys(
                file.class_names[file.classes[each["category_id"]] - 1]
                for each in objects
                if not each.get("iscrowd")
            )
        )
        for name, objects in file.objects.items()
    }
    return found, list(file.class_names)


def _from_folders(folder: Path) -> tuple[Classes, list[str]]:
    found: Classes = {}
    first: dict[str, Path] = {}
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: name the {_WHAT['folders']}")
    for own in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        for path in _files(own, *IMAGE_SUFFIXES):
            other = first.setdefault(path.stem, path)
            if other is not path and other.read_bytes() != path.read_bytes():
                raise InputError(f"{other} and {path} are different photos of one id: rename one")
            found.setdefault(path.stem, []).append(own.name)
    return found, _sorted(found)


def _from_csv(path: Path) -> tuple[Classes, list[str]]:
    if path.is_dir():
        raise InputError(f"{path} is a folder: name the table in it")
    header, *rows = read_table(path) or [[""]]
    if header[0].casefold() not in _IDS or len(header) < 2:
        raise InputError(
            f"{path} begins with {short(','.join(header))}: its first row must be a header, of which the "
            f"first column is one of {', '.join(sorted(_IDS))}, the others classes, or one column of their "
            "names"
        )
    if wrong := [row for row in rows if len(row) != len(header)]:
        raise InputError(
            f"{path}: the row {short(','.join(wrong[0]))} has {len(wrong[0])} cells, but the header "
            f"{len(header)}: make them agree"
        )
    named = len(header) == 2 and not {row[1].casefold() for row in rows} <= _YES | _NO
    found = _named(rows) if named else _marked(path, header, rows)
    return found, _sorted(found) if named else header[1:]


def _named(rows: Sequence[Sequence[str]]) -> Classes:
    """Classes from rows of an image and a class; an empty class adds none."""
    found: Classes = {}
    for name, label in rows:
        classes = found.setdefault(_id(name), [])
        if label and label not in classes:
            classes.append(label)
    return found


def _marked(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Classes:
    """Classes from a column for each class, whose cells say yes or no."""
    found: Classes = {}
    for name, *cells in rows:
        if wrong := [cell for cell in cells if cell.casefold() not in _YES | _NO]:
            raise InputError(
                f"{path}: the row of {short(name)} holds {short(repr(wrong[0]))}: write 1 or 0 for each "
                "class, or two columns, image and class, with one row for each class of an image"
            )
        if _id(name) in found:
            raise InputError(f"{path} has two rows of {short(_id(name))}: leave one")
        chosen = [label for label, cell in zip(header[1:], cells, strict=True) if cell.casefold() in _YES]
        found[_id(name)] = chosen
    return found


def _id(name: str) -> str:
    path = Path(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _sorted(found: Classes) -> list[str]:
    return sorted({name for classes in found.values() for name in classes})


_READERS: Mapping[Kind, Callable[[Path], tuple[Classes, list[str]]]] = {
    "xml": _from_xml,
    "coco": _from_coco,
    "csv": _from_csv,
    "folders": _from_folders,
}
