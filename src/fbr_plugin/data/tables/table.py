"""The table of image labels, `labels.csv`, and the list of classes beside it."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fbr_plugin.data.readers.labels import read_lines
from fbr_plugin.data.tables.sources import Classes
from fbr_plugin.errors import InputError
from fbr_plugin.files import write_text


def listed_classes(output: Path) -> list[str] | None:
    """The names in `classes.txt` beside a table; None without that file."""
    path = output.parent / "classes.txt"
    return list(read_lines(path, "class name")) if path.is_file() else None


def write_table(output: Path, found: Classes, class_names: Sequence[str], replace: bool) -> list[Path]:
    """Write a table with the header `id,<class>,...` and cells 0 or 1, and `classes.txt` if there is none.

    Args:
        output: file of the table.
        found: the classes of each image.
        class_names: all classes, in the order of their numbers 1..C.
        replace: whether a table that exists is replaced.

    Returns:
        The files that were written.

    Raises:
        ValueError: the table exists, `classes.txt` names other classes, or a name cannot be used.
    """
    if output.exists() and not replace:
        raise InputError(f"{output} exists: name another file, or replace it by --replace")
    _check_names(class_names)
    listed, classes_file = listed_classes(output), output.parent / "classes.txt"
    if listed is not None and listed != list(class_names):
        raise InputError(
            f"{classes_file} names {listed}, but the classes are {list(class_names)}: correct that file, or "
            "remove it to have it written"
        )
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["id", *class_names])
    for name in sorted(found):
        present = {*found[name]}
        writer.writerow([name, *(int(each in present) for each in class_names)])
    write_text(output, file.getvalue())
    if listed is not None:
        return [output]
    write_text(classes_file, "\n".join(class_names) + "\n")
    return [output, classes_file]


def _check_names(class_names: Sequence[str]) -> None:
    """Raise for names that `classes.txt` cannot hold."""
    if not class_names:
        raise InputError("no image has a class: is this the right file or folder?")
    for name, count in Counter(class_names).items():
        if not name or name != name.strip() or "\n" in name:
            raise InputError(f"the class name {name!r} is empty, or has spaces around it: correct it")
        if count > 1:
            raise InputError(f"the class {name!r} is named twice: name each class once")
        if name.casefold() == "background":
            raise InputError("the background is no class, since it is always 0: remove 'background'")
