"""Checks of the image labels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.datamodules.voc import VOCDataModule
from fbr_plugin.data.readers.files import rows_of_table
from fbr_plugin.data.readers.labels import labels_from_xml
from fbr_plugin.data.readers.pickles import load_restricted
from fbr_plugin.doctor.checks.lists import check_encoding
from fbr_plugin.doctor.findings import Report
from fbr_plugin.doctor.keys import respelled
from fbr_plugin.doctor.subject import Labels, Subject
from fbr_plugin.doctor.text import read_text
from fbr_plugin.errors import UserError


def check_labels(subject: Subject, report: Report) -> None:
    """Check the image labels of all lists, and keep those that are right in the subject."""
    file, source, ids = subject.label_file, subject.label_source, subject.all_ids()
    known_errors = report.errors
    if source == "masks" or (source == "none" and not subject.labels):
        return
    if file is not None and file.exists() and not subject.is_coco:
        match source:
            case "csv":
                subject.labels = _check_table(file, subject, report)
            case "npy":
                subject.labels = _check_pickle(file, subject, report)
            case "xml":
                subject.labels = _check_xml(file, subject, report)
    elif file is not None and isinstance(subject.data, VOCDataModule):
        remedy = "copy them there, or give another label_file or label_source"
        report.add("error", "the image labels are missing", [str(file)], remedy)
    if isinstance(subject.data, LayoutDataModule):
        with report.collecting("training cannot read the image labels", known_errors):
            known = subject.data.image_labels(ids)
            subject.labels |= {name: known[name] for name in ids if name in known}
    explained = {*subject.labels, *subject.unusable}
    lacking = [name for name in ids if name not in explained] if subject.labels else []
    remedy = "add their labels, or take the ids off the list (--fix writes a cleaned list)"
    report.add("error", "ids without image labels", lacking, remedy)
    subject.unusable |= {*lacking}
    found = {name: label for name in ids if (label := subject.labels.get(name)) is not None}
    _check_content(found, subject, report)


def _check_content(labels: Labels, subject: Subject, report: Report) -> None:
    """Check how many classes images have."""
    empty = [name for name, label in labels.items() if not label.any()]
    if empty and len(empty) == len(labels):
        remedy = "write 1 for each class that is seen; a network that needs no labels: label_source none"
        report.add("error", "no image label has a class", empty, remedy)
        subject.labels = {}
        return
    if subject.is_coco:
        report.figures.append(f"image labels without a class: {len(empty)}")
        return
    remedy = "such an image trains the background alone: is its label missing?"
    report.add("warning", "image labels without a class", empty, remedy)
    if not isinstance(subject.data, LayoutDataModule):
        remedy = "localization takes images of one class each: take them off the list"
        report.add("error", "images of several classes", [n for n in labels if labels[n].sum() > 1], remedy)


def table_rows(path: Path) -> list[list[str]]:
    """The rows of a table that are not empty, of any encoding."""
    return rows_of_table(path, read_text(path).content)


def _check_table(path: Path, subject: Subject, report: Report) -> Labels:
    """Check `labels.csv`; return the labels of its valid rows."""
    check_encoding(path, report)
    names = subject.class_names
    try:
        header, *rows = table_rows(path) or [[]]
    except UserError as error:
        report.add("error", "labels that cannot be read", [path.name], str(error))
        return {}
    if len(header) == 1 and any(sign in header[0] for sign in ";\t"):
        remedy = "write commas between the cells, as in id," + ",".join(names)
        report.add("error", "a table without commas", [f"{path.name} ({header[0]})"], remedy)
        return {}
    if header[:1] != ["id"] or sorted(header[1:]) != sorted(names):
        report.add(
            "error",
            f"columns of {path.name} that disagree with the list of classes",
            sorted({*header} ^ {"id", *names}) or header or ["none"],
            f"its header must be id and the names in classes.txt, each once: id,{','.join(names)}",
        )
        return {}
    order = [header.index(name) for name in names]
    wrong: list[str] = []
    labels: Labels = {}
    twice: dict[str, bool] = {}  # whether the rows of an id are equal
    for row in rows:
        if len(row) != len(header) or not {*row[1:]} <= {"0", "1"}:
            wrong.append(row[0])
            continue
        label = np.array([row[column] for column in order], np.float32)
        if row[0] in labels:
            twice[row[0]] = twice.get(row[0], True) and np.array_equal(labels[row[0]], label)
        labels[row[0]] = label
    subject.unusable |= {*wrong}
    remedy = f"write {len(names)} cells of 0 or 1 after the id"
    report.add("error", f"rows of {path.name} that are not 0 or 1 for each class", wrong, remedy)
    differ = [name for name, equal in twice.items() if not equal]
    report.add("error", f"ids with two different rows in {path.name}", differ, "leave the right one")
    equal = [name for name, same in twice.items() if same]
    report.add("note", f"ids with two equal rows in {path.name}", equal, "leave one")
    return _as_spelled(labels, path, subject, report)


def _check_pickle(path: Path, subject: Subject, report: Report) -> Labels:
    """Check a pickled dictionary from id to labels; return those that are valid."""
    count = subject.data.num_classes
    try:
        content = load_restricted(path)
    except UserError as error:
        remedy = f"copy it again, or save a dictionary from id to an array of {count} numbers: {error}"
        report.add("error", "labels that cannot be read", [path.name], remedy)
        return {}
    if not isinstance(content, dict):
        remedy = f"save a dictionary from id to an array of {count} numbers, 0 or 1"
        report.add("error", "labels that are no dictionary", [path.name], remedy)
        return {}
    numbers = {key: _numbers(value) for key, value in content.items()}
    arrays = {key: array for key, array in numbers.items() if array is not None}
    remedy = f"each id has {count} numbers, 0 or 1, one for each class without the background"
    texts = [repr(key) for key in numbers if key not in arrays]
    report.add("error", f"labels in {path.name} that are not numbers", texts, remedy)
    sizes = [f"{key!r} {array.shape}" for key, array in arrays.items() if array.shape != (count,)]
    report.add("error", f"labels in {path.name} of another length", sizes, remedy)
    arrays = {key: array for key, array in arrays.items() if array.shape == (count,)}
    right = {key: array for key, array in arrays.items() if np.isin(array, (0, 1)).all()}
    wrong = [repr(key) for key in arrays if key not in right]
    report.add("error", f"labels in {path.name} other than 0 and 1", wrong, remedy)
    subject.unusable |= {voc_id(str(key)) for key in content if key not in right}
    by_text = {str(key): array for key, array in right.items()}
    by_text |= {voc_id(key): array for key, array in by_text.items()}
    return _as_spelled(by_text, path, subject, report)


def _numbers(value: object) -> NDArray[np.float32] | None:
    """A value as training takes it; None if it holds anything but numbers."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    return array.astype(np.float32) if array.dtype.kind in "biuf" else None


def voc_id(key: str) -> str:
    """VOC's id 2007_000032 from a number 2007000032, as training reads it."""
    return f"{key[:4]}_{key[4:]}" if key.isdigit() and len(key) == 10 else key


def _as_spelled(labels: Labels, path: Path, subject: Subject, report: Report) -> Labels:
    """Labels by id, also where the file spells keys otherwise, which is an error."""
    found = respelled(subject.all_ids(), labels)
    report.add(
        "error",
        f"keys in {path.name} that are spelled unlike the ids",
        [f"{key} for {name}" for name, key in found.items()],
        "a key is the text of the id, without suffix, with all its zeros (--fix writes such a file)",
    )
    return labels | {name: labels[key] for name, key in found.items()}


def _check_xml(folder: Path, subject: Subject, report: Report) -> Labels:
    """Check the annotations in VOC's XML; return the labels of those that are valid."""
    found = {name: _xml_labels(folder, name, subject) for name in subject.all_ids()}
    wrong = {name: message for name, message in found.items() if isinstance(message, str)}
    for message in [*wrong.values()][:1]:
        report.add("error", "annotations that cannot be used", wrong, f"the first: {message}")
    return {name: label for name, label in found.items() if not isinstance(label, str)}


def _xml_labels(folder: Path, name: str, subject: Subject) -> NDArray[np.float32] | str:
    """The labels [C] of an annotation, or why it cannot be used."""
    try:
        return labels_from_xml(folder, [name], subject.class_names)[name]
    except UserError as error:
        return str(error)
