"""Tables and files of paired runs: the arms of a baseline, over one or more random seeds.

The result of a seed is {"seed": number, "scores": {method: {column: value}}}: the CAM comes first, then the
baseline, then its arms with FBR.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fbr_plugin.experiments.statistics import aligned
from fbr_plugin.files import write_text

COLUMNS = {
    "miou_oracle": "mIoU oracle",
    "miou_label_free": "mIoU label-free",
    "recall": "recall",
    "precision": "precision",
    "fp_cooccurring": "FP co-occ.",
    "fp_other": "FP other",
    "seconds": "seconds",
    "step_share": "share of step",
}
NOTES = (
    "+ FBR: its losses, as published; the last method is the recommended one. share of step: the part of a",
    "training step that FBR or the gate takes, by the clock: beside other programs it says",
    "nothing, and may be negative. vs: paired differences.",
    "In percent, except the seconds of training; seeds of the training images. oracle: threshold chosen with",
    "the masks; label-free: without. Recall, precision and false positives (FP: background predicted as a",
    "class of the image, on the stuff that co-occurs with it and elsewhere) are at the oracle threshold.",
)

Result = dict[str, Any]


def write_results(results: Sequence[Result], settings: dict[str, Any], folder: Path) -> None:
    """Write all metrics to metrics.json, and those of the table to metrics.csv."""
    write_text(folder / "metrics.json", json.dumps({"settings": settings, "seeds": results}, indent=2))
    rows = [
        {"seed": result["seed"], "method": name, **{column: score.get(column) for column in COLUMNS}}
        for result in results
        for name, score in result["scores"].items()
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "metrics.csv", text.getvalue())


def paired_table(results: Sequence[Result]) -> str:
    """A table of means and deviations over the seeds and, with several seeds, the paired differences."""
    methods = list(results[0]["scores"])
    values = {
        name: {column: [result["scores"][name].get(column) for result in results] for column in COLUMNS}
        for name in methods
    }
    if len(results) > 1:
        _, baseline, *with_fbr = methods
        for name in with_fbr:
            methods.append(f"{name} vs {baseline}")
            values[methods[-1]] = {
                column: _differences(values[baseline][column], values[name][column]) for column in COLUMNS
            }
    cells = [["", *COLUMNS.values()]]
    cells += [[name, *(_cell(values[name][column]) for column in COLUMNS)] for name in methods]
    return "\n".join([aligned(cells), "", *NOTES])


def _differences(baseline: Sequence[float | None], with_fbr: Sequence[float | None]) -> list[float | None]:
    pairs = zip(baseline, with_fbr, strict=True)
    return [None if a is None or b is None else b - a for a, b in pairs]


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{mean(known):.2f}" + (f" ± {stdev(known):.2f}" if len(known) > 1 else "")
