"""How often classes occur, alone and together: figures, and findings where nothing can be learnt."""

from collections.abc import Sequence

import numpy as np

from fbr_plugin.doctor.findings import Report
from fbr_plugin.doctor.subject import Subject

_FEW, _MANY = 5, 100  # images of a class that are too few, in lists from this length on
_SEEN = 10  # images from which on two classes that are always together are no chance
_PAIRS = 3  # pairs of classes in the figures


def check_balance(subject: Subject, report: Report) -> None:
    """Count classes and pairs of classes in the training images."""
    names = subject.class_names
    labels = [subject.labels[name] for name in subject.ids.get("train", ()) if name in subject.labels]
    if not labels:
        return
    present = np.stack(labels) > 0  # [N, C]
    counts = present.sum(0)
    ordered = sorted(zip(counts.tolist(), names, strict=True), reverse=True)
    shown = [f"{name} {count}" for count, name in ordered]
    if len(shown) > 12:
        shown = [*shown[:5], "...", *shown[-5:]]
    report.figures.append(f"training images of each class: {', '.join(shown)}")
    _check_counts(counts.tolist(), len(labels), names, report)
    together = present.T.astype(np.int64) @ present
    rows = [
        (together[a, b] / counts[a], names[a], names[b], int(counts[a]))
        for a in range(len(names))
        for b in range(len(names))
        if a != b and counts[a]
    ]
    rows.sort(key=lambda row: -row[0])
    pairs = [f"{a} with {b} {share:.0%}" for share, a, b, _ in rows[:_PAIRS] if share > 0]
    if pairs:
        report.figures.append(f"classes together most often: {', '.join(pairs)}")
    report.add(
        "warning",
        "classes that never occur without another one",
        [f"{a} without {b}" for share, a, b, count in rows if share == 1 and count >= _SEEN],
        "image labels cannot tell the two apart: add images of the one without the other, or merge them",
    )


def _check_counts(counts: Sequence[int], total: int, names: Sequence[str], report: Report) -> None:
    """Look for classes that cannot be learnt."""
    report.add(
        "warning",
        "classes in no training image",
        [name for name, count in zip(names, counts, strict=True) if count == 0],
        "they are never learnt: add images, or remove the classes",
    )
    report.add(
        "warning",
        f"classes in fewer than {_FEW} training images",
        [
            f"{name} ({count})"
            for name, count in zip(names, counts, strict=True)
            if 0 < count < _FEW and total >= _MANY
        ],
        "add images, or merge them into other classes",
    )
    report.add(
        "warning",
        "classes in every training image",
        [name for name, count in zip(names, counts, strict=True) if count == total and len(names) > 1],
        "a classifier needs images without the class: add some",
    )
