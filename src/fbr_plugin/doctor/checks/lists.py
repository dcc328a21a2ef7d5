"""Checks of the lists and of the class names."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, spellings
from fbr_plugin.data.readers.limits import is_file_name
from fbr_plugin.doctor.findings import Report
from fbr_plugin.doctor.subject import Subject
from fbr_plugin.doctor.text import Text, read_text
from fbr_plugin.errors import short

_BACKGROUND = {"background", "_background_", "__background__", "bg"}


class Line(NamedTuple):
    """A line of a list, without spaces around it, and its id as training takes it."""

    text: str
    name: str

    @property
    def is_pair(self) -> bool:
        """Whether the line is such as `/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`."""
        words = self.text.split()
        return len(words) == 2 and all(word.lower().endswith(IMAGE_SUFFIXES) for word in words)


def read_list(path: Path) -> list[Line]:
    """The lines of a list; unlike in training, of any encoding, and with the empty ones."""
    lines = [line.strip() for line in read_text(path).content.splitlines()]
    return [Line(line, _id(line)) for line in lines]


def _id(line: str) -> str:
    first = PurePosixPath((line.split() or [""])[0])
    return first.stem if first.suffix.lower() in IMAGE_SUFFIXES else first.name


def check_lists(subject: Subject, report: Report) -> None:
    """Check the list files, and keep their ids in the subject, each once."""
    for name, path in subject.lists.items():
        known = report.errors
        if path is not None and not path.is_file():
            others = ", ".join(sorted(each.stem for each in path.parent.glob("*.txt"))) or "no list"
            remedy = f"write one image id per line into it, or choose another: its folder holds {others}"
            report.add("error", "a list is missing", [str(path)], remedy)
        elif path is not None:
            lines = _check_list(path, report)
            found = [line.name for line in lines if is_file_name(line.name)]
            subject.ids[name] = _known(subject, list(dict.fromkeys(found)), report)
        if name in subject.names:
            with report.collecting(f"training cannot read the list {name!r}", known):
                listed = subject.data.listed(subject.names[name])
                subject.ids[name] = list(dict.fromkeys(listed))
    for name, ids in subject.ids.items():
        report.figures.append(f"list {name}: {len(ids)} images")
    _check_overlap(subject, report)


def _known(subject: Subject, ids: list[str], report: Report) -> list[str]:
    """The ids of a list as the data set calls them: COCO's numbers by the names of their photos."""
    if not subject.is_coco:
        return ids
    stems = {path.stem for folder in subject.image_dirs for path in folder.glob("*.jpg")}
    known = {name: next((each for each in spellings(name) if each in stems), None) for name in ids}
    report.add(
        "error",
        "ids without a photo",
        [name for name, found in known.items() if found is None],
        "copy the photo, or take the id off the list (--fix writes a cleaned list)",
    )
    return [found for found in known.values() if found is not None]


def _check_list(path: Path, report: Report) -> list[Line]:
    """Check a list file; return its lines that are not empty."""
    check_encoding(path, report)
    report.add(
        "note",
        "lists with characters that belong to no id",
        [f"{path.name} ({stray})"] if (stray := _stray(read_text(path))) else [],
        "training skips them, other tools may not: save it without them (--fix writes a cleaned list)",
    )
    every = read_list(path)
    lines = [line for line in every if line.text]
    report.add(
        "note",
        "empty lines in a list",
        [f"{path.name}:{n}" for n, line in enumerate(every, start=1) if not line.text],
        "training skips them, other tools may not: remove them (--fix writes a cleaned list)",
    )
    if not lines:
        report.add("error", "a list is empty", [str(path)], "write one image id per line into it")
    report.add(
        "error",
        f"ids that cannot be names of files in {path.name}",
        [short(line.text) for line in lines if not is_file_name(line.name)],
        "an id is the name of the photo's file without its suffix: correct them",
    )
    spaced = [line.text for line in lines if not line.is_pair and len(line.text.split()) > 1]
    report.add(
        "error",
        f"ids with spaces in {path.name}",
        spaced,
        "training takes the text up to the first space: rename photo and mask, and list them without spaces",
    )
    report.add(
        "note",
        f"ids with a suffix in {path.name}",
        [line.text for line in lines if line.text == line.text.split()[0] != line.name],
        "training drops the suffix, other tools may not: list ids alone (--fix writes a cleaned list)",
    )
    counts = Counter(line.name for line in lines)
    report.add(
        "warning",
        f"ids listed twice in {path.name}",
        [name for name, count in counts.items() if count > 1],
        "such an image counts twice in training and in scores: leave one (--fix writes a cleaned list)",
    )
    folded = Counter(name.casefold() for name in counts)
    report.add(
        "warning",
        f"ids that differ in case alone in {path.name}",
        [name for name in counts if folded[name.casefold()] > 1],
        "on Windows and macOS their files overwrite each other: rename one",
    )
    return lines


def _stray(text: Text) -> str:
    """The characters of a list that are neither ids nor line feeds."""
    spaced = any(line != line.strip() for line in text.content.splitlines() if line.strip())
    found = {
        "a byte order mark": text.encoding == "utf-8-sig",
        "Windows line endings": "\r" in text.content,
        "spaces around ids": spaced,
    }
    return ", ".join(each for each, present in found.items() if present)


def check_encoding(path: Path, report: Report) -> None:
    """Check that a text file is in UTF-8."""
    if not (text := read_text(path)).is_utf8:
        report.add(
            "error",
            "text that is not UTF-8",
            [f"{path.name} ({text.encoding})"],
            "save it as UTF-8 (--fix writes such a copy: look at its accents and umlauts)",
        )


def _check_overlap(subject: Subject, report: Report) -> None:
    """Check that training images are scored either all or not at all."""
    train, val = ({*subject.ids.get(name, ())} for name in ("train", "val"))
    shared = sorted(train & val)
    if shared and val <= train:
        report.figures.append("list val: all of its images are training images, as to judge seeds")
    else:
        report.add(
            "warning",
            "ids both in train and in val",
            shared,
            "scores on training images are too good: take them off one list (--fix takes them off train)",
        )


def check_classes(path: Path, report: Report) -> None:
    """Check the file of the class names, without which there is no data module."""
    if not path.is_file():
        return  # the data module says what it misses
    check_encoding(path, report)
    names = [line.strip() for line in read_text(path).content.splitlines()]
    names = [name for name in names if name]
    report.add(
        "error",
        f"class names twice in {path.name}",
        [name for name, count in Counter(names).items() if count > 1],
        "every line is a class of its own, numbered 1..C: name each class once",
    )
    report.add(
        "error",
        f"the background is a class in {path.name}",
        [name for name in names if name.casefold() in _BACKGROUND],
        "it is always 0 and has no name: remove the line, and its column in labels.csv",
    )
