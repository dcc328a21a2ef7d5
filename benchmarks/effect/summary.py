"""Paired differences over seeds, with confidence intervals, as a table."""

import math
from collections.abc import Sequence
from csv import DictWriter
from io import StringIO
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from fbr_plugin.experiments import report

COLUMNS = {
    column: title for column, title in report.COLUMNS.items() if column not in ("seconds", "step_share")
}
COLUMNS |= {
    "fp_matched": "co-occ. at matched recall",
    "miou_fixed": "mIoU fixed",
    "threshold_oracle": "best threshold",
    "label_miou": "mIoU of labels",
    "label_precision": "precision of labels",
}

DERIVED = {"fp_matched": "fp_curve", "miou_fixed": "miou_curve"}  # of what a column is computed

Result = dict[str, Any]
Pairs = list[tuple[Result, Result]]  # of a variant beside the baseline, a pair a seed


def matched(result: Result, recall: float) -> float:
    """False positives on the co-occurring background where the recall is that of the baseline.

    Of thresholds of one recall the highest counts; nan where the recall is beyond all thresholds.
    """
    known = dict(zip(result["recall_curve"], result["fp_curve"], strict=True))
    falling = sorted(known, reverse=True)
    if not falling[-1] <= recall <= falling[0]:
        return math.nan
    return float(np.interp(-recall, [-value for value in falling], [known[value] for value in falling]))


def fixed(result: Result, base: Result) -> float:
    """mIoU at the baseline's own best threshold."""
    return float(result["miou_curve"][base["thresholds"].index(base["threshold_oracle"])])


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95% confidence interval of the mean; nan for a single value."""
    if len(values) < 2:
        return math.nan
    return float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def table(results: Sequence[Result]) -> str:
    """A Markdown table: for each stage the baseline, then the paired difference of every variant.

    Args:
        results: of `runs.run`, of one setting; seeds without the baseline are left out.
    """
    groups = pairs_by_variant(results)
    columns = [name for name in COLUMNS if any(_has(name, pairs[0][0]) for pairs in groups.values())]
    lines = [
        "| stage | variant | seeds | won | " + " | ".join(COLUMNS[name] for name in columns) + " |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for (stage, name), pairs in groups.items():
        baseline = name == "baseline"
        values = [
            _differences(column, pairs, baseline) if _has(column, pairs[0][0]) else [] for column in columns
        ]
        won = "" if baseline else f"{sum(value > 0 for value in values[0])}"
        cells = [_cell(each, baseline, len(pairs)) for each in values]
        lines.append("| " + " | ".join([stage, name, str(len(pairs)), won, *cells]) + " |")
    return "\n".join(lines)


def pairs_by_variant(results: Sequence[Result]) -> dict[tuple[str, str], Pairs]:
    """Of each stage and variant, the results of the seeds beside those of the baseline, in order."""
    seeds: dict[tuple[str, str], dict[int, Result]] = {}
    for result in results:
        seeds.setdefault((result["stage"], result["name"]), {})[result["seed"]] = result
    pairs = {}
    for (stage, name), own in seeds.items():
        baseline = seeds.get((stage, "baseline"), {})
        if shared := sorted(own.keys() & baseline.keys()):
            pairs[stage, name] = [(own[seed], baseline[seed]) for seed in shared]
    return pairs


def csv(results: Sequence[Result]) -> str:
    """The figures of every run as CSV, a line a run."""
    columns = ("stage", "name", "seed", *(column for column in COLUMNS if column not in DERIVED))
    lines = StringIO()
    writer = DictWriter(lines, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(results)
    return lines.getvalue()


def _has(column: str, result: Result) -> bool:
    """Whether a result has what a column needs."""
    return bool(result.get(DERIVED[column])) if column in DERIVED else column in result


def _differences(column: str, pairs: Pairs, baseline: bool) -> list[float]:
    """A column of each pair: the variant's value less the baseline's, or of the latter the value."""
    values = [
        _value(column, own, base) - (0 if baseline else _value(column, base, base)) for own, base in pairs
    ]
    return [value for value in values if not math.isnan(value)]  # a variant may not reach the recall


def _value(column: str, result: Result, base: Result) -> float:
    """A result's value of a column, beside the baseline of its seed."""
    if column == "fp_matched":
        return matched(result, base["recall"])
    return fixed(result, base) if column == "miou_fixed" else float(result[column])


def _cell(values: Sequence[float], baseline: bool, seeds: int) -> str:
    """Mean and deviation of the baseline; mean difference and its confidence interval of a variant."""
    if not values:
        return "-"
    text = f"{mean(values):.2f}" if baseline else f"{mean(values):+.2f}"
    if len(values) > 1:
        text += f" ± {stdev(values) if baseline else interval(values):.2f}"
    return text + (f" (of {len(values)})" if len(values) < seeds else "")
