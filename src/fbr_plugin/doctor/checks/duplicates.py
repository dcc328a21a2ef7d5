"""Photos that are the same, byte for byte, or nearly."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.doctor.findings import Report
from fbr_plugin.doctor.inspection import Photo
from fbr_plugin.doctor.subject import Subject

_SIMILAR = 0.99  # correlation of reduced photos from which on they are nearly the same
_PLAIN = 4.0  # standard deviation of a reduced photo, of 255, below which it shows too little to compare
_ROWS = 1024  # photos that are compared at once


def check_duplicates(photos: Mapping[str, Photo], subject: Subject, report: Report) -> None:
    """Look for equal photos anywhere, and for similar ones in train and in val."""
    equal = _equal(photos)
    remedy = "keep one of them: copies count twice, and in train and val they make scores too good"
    report.add("warning", "photos that are the same under several ids", map(" = ".join, equal), remedy)
    train, val = ({*subject.ids.get(name, ())} for name in ("train", "val"))
    if val <= train:
        return
    known = {frozenset((first, other)) for first, *others in equal for other in others}
    pairs = _similar(photos, sorted(train), sorted(val - train))
    report.add(
        "warning",
        "photos of train that are nearly the same in val",
        [f"{first} ~ {other}" for first, other in pairs if frozenset((first, other)) not in known],
        "scores on such photos are too good: put all shots of a scene on one list",
    )


def _equal(photos: Mapping[str, Photo]) -> list[list[str]]:
    """Groups of photos whose files are equal."""
    by_length = defaultdict(list)
    for name, photo in photos.items():
        by_length[photo.nbytes].append(name)
    groups = defaultdict(list)
    for names in by_length.values():
        for name in names if len(names) > 1 else ():
            groups[hashlib.sha256(photos[name].path.read_bytes()).digest()].append(name)
    return [names for names in groups.values() if len(names) > 1]


def _similar(photos: Mapping[str, Photo], left: Iterable[str], right: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of photos, one of each side, that correlate when reduced; plain ones are left out."""
    rows, columns = (
        {n: v for n in names if n in photos and (v := _direction(photos[n])) is not None}
        for names in (left, right)
    )
    if not rows or not columns:
        return []
    names, others = [*rows], [*columns]
    others_stacked = np.stack([*columns.values()]).T
    pairs = []
    for start in range(0, len(names), _ROWS):
        block = np.stack([rows[name] for name in names[start : start + _ROWS]])
        found = np.argwhere(block @ others_stacked >= _SIMILAR)
        pairs += [(names[start + row], others[column]) for row, column in found.tolist()]
    return pairs


def _direction(photo: Photo) -> NDArray[np.float32] | None:
    """The reduced photo as a vector of mean 0 and length 1; None if it is plain."""
    values = photo.thumb.astype(np.float32).ravel()
    values -= values.mean()
    if values.std() < _PLAIN:
        return None
    unit: NDArray[np.float32] = values / np.linalg.norm(values)
    return unit
