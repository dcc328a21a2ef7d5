"""Mended copies of lists, labels and masks, beside the files and never over them."""

import csv
import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.data.readers.pickles import load_restricted
from fbr_plugin.doctor.checks.labels import table_rows, voc_id
from fbr_plugin.doctor.checks.lists import read_list
from fbr_plugin.doctor.colours import is_recoverable, reordered, to_numbers
from fbr_plugin.doctor.inspection import Inspected, Mask
from fbr_plugin.doctor.keys import respelled
from fbr_plugin.doctor.subject import Subject
from fbr_plugin.doctor.text import read_text
from fbr_plugin.errors import UserError
from fbr_plugin.files import replacing, write_text


def mend(subject: Subject, files: Mapping[str, Inspected]) -> Iterator[str]:
    """Write copies of what can be mended without doubt; yield a line on each.

    Lists are written without empty lines, spaces, suffixes, repeated ids, ids of photos that are missing or
    broken, and training ids that are scored as well, and with ids as their files are spelled; text as UTF-8;
    keys of labels as the ids; masks of VOC's colours as class numbers.

    Args:
        subject: a data set that was checked.
        files: of its images.
    """
    if subject.classes_file is not None:
        yield from mend_encoding(subject.classes_file)
    yield from _mend_lists(subject)
    file = subject.label_file
    if file is not None and file.is_file() and subject.label_source == "csv":
        yield from _mend_table(file, subject)
    elif file is not None and file.is_file() and subject.label_source == "npy" and not subject.is_coco:
        yield from _mend_pickle(file, subject)
    yield from _mend_masks(subject, files)


def mend_encoding(path: Path) -> Iterator[str]:
    """Write a copy of a text file in UTF-8, if it is in another encoding; yield a line on it."""
    if path.is_file() and not (text := read_text(path)).is_utf8:
        yield from _write(path, text.content, "as UTF-8")


def _beside(path: Path) -> Path:
    """Where a mended copy goes: train.fixed.txt for train.txt, SegmentationClass.fixed for that folder."""
    return path.with_name(f"{path.stem}.fixed{path.suffix}")


def _mend_lists(subject: Subject) -> Iterator[str]:
    train, val = ({*subject.ids.get(name, ())} for name in ("train", "val"))
    scored = set() if val <= train else train & val
    for name, path in subject.lists.items():
        if path is None or not path.is_file():
            continue
        lines, text = read_list(path), read_text(path)
        left_out = subject.unusable | (scored if name == "train" else set())
        named = [(subject.misspelt.get(line.name, line.name), line) for line in lines if line.text]
        kept = {name: line for name, line in reversed(named) if name not in left_out}
        ids = [line.text if line.is_pair else name for name, line in reversed(kept.items())]
        cleaned = "\n".join(ids) + "\n"
        if ids and (text.encoding != "utf-8" or cleaned != text.content.removesuffix("\n") + "\n"):
            yield from _write(path, cleaned, f"{len(ids)} ids of {len(lines)} lines")


def _mend_table(path: Path, subject: Subject) -> Iterator[str]:
    try:
        header, *rows = table_rows(path) or [[]]
    except UserError:  # of which the check has told
        return
    keys = {key: name for name, key in respelled(subject.all_ids(), [row[0] for row in rows]).items()}
    if not keys and read_text(path).is_utf8:
        return
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *([keys.get(k, k), *r] for k, *r in rows)])
    yield from _write(path, file.getvalue(), f"{len(keys)} keys spelled as their ids")


def _mend_pickle(path: Path, subject: Subject) -> Iterator[str]:
    content = load_restricted(path)
    if not isinstance(content, dict):
        return
    by_text = {voc_id(str(key)): value for key, value in content.items()}
    keys = {key: name for name, key in respelled(subject.all_ids(), by_text).items()}
    target = _beside(path)
    if not keys:
        return
    if target.exists():
        yield f"not written: {target} exists; remove it first"
        return
    mended: Any = {keys.get(key, key): value for key, value in by_text.items()}
    with replacing(target) as partial, partial.open("wb") as file:
        np.save(file, mended)
    yield f"written: {target} ({len(keys)} keys spelled as their ids)"


def _mend_masks(subject: Subject, files: Mapping[str, Inspected]) -> Iterator[str]:
    folder, count = subject.mask_dir, subject.data.num_classes
    masks = {name: each.mask for name, each in files.items() if isinstance(each.mask, Mask)}
    shuffled = reordered(masks, count)
    mended = {name for name, mask in masks.items() if name in shuffled or is_recoverable(mask, count)}
    if folder is None or not mended:
        return
    target = _beside(folder)
    if target.exists():
        yield f"not written: {target} exists; remove it first"
        return
    for name, mask in masks.items():
        if name in mended:
            write_mask(target / mask.path.name, to_numbers(mask, count))
        else:
            target.mkdir(exist_ok=True)
            shutil.copyfile(mask.path, target / mask.path.name)
    yield f"written: {target} ({len(mended)} masks converted, {len(masks) - len(mended)} copied)"


def _write(path: Path, text: str, what: str) -> Iterator[str]:
    target = _beside(path)
    if target.exists():
        yield f"not written: {target} exists; remove it first"
        return
    write_text(target, text)
    yield f"written: {target} ({what})"
