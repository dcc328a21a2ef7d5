"""The table and the CSV files of a sweep."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fbr_plugin.errors import InputError
from fbr_plugin.experiments.statistics import Paired, aligned, paired

Scores = Mapping[str, Mapping[int, Mapping[str, float]]]
"""The figures by arm, seed and name."""


def check_metrics(metrics: Sequence[str], scores: Mapping[str, float]) -> None:
    """Raise unless a run has these figures."""
    if unknown := [name for name in metrics if name not in scores]:
        raise InputError(f"metrics: test logs no {', '.join(unknown)}; it logs {', '.join(scores)}")


def line(scores: Mapping[str, float], metrics: Sequence[str]) -> str:
    """The figures of a run that are in `metrics`, or the first one of all."""
    names = [name for name in metrics if name in scores] or [*scores][:1]
    return ", ".join(f"{name} {scores[name]:.2f}" for name in names)


def compared(scores: Scores, reference: str) -> dict[str, dict[str, Paired]]:
    """Every figure of every arm beside that of the reference, by figure and arm."""
    names = dict.fromkeys(name for arm in scores.values() for own in arm.values() for name in own)
    values = {
        name: {
            arm: {seed: own[name] for seed, own in seeds.items() if name in own}
            for arm, seeds in scores.items()
        }
        for name in names
    }
    return {
        name: {arm: paired(own, arms[reference]) for arm, own in arms.items() if own}
        for name, arms in values.items()
    }


def table(scores: Scores, reference: str, metrics: Sequence[str] = ()) -> str:
    """A table of each figure: mean and difference to the reference, each with its 95% interval.

    Args:
        scores: of all runs.
        reference: arm with which the others are compared.
        metrics: the figures; all without any.
    """
    blocks = []
    found = compared(scores, reference)
    for name in metrics or found:
        rows = [[name, "mean", f"vs {reference}", "won"]]
        for arm, own in found[name].items():
            difference = won = ""
            if arm != reference and not math.isnan(own.difference):
                difference = f"{own.difference:+.2f}{_spread(own.difference_interval)}"
                won = f"{own.won} of {own.seeds}"
            rows.append([arm, f"{own.mean:.2f}{_spread(own.interval)}", difference, won])
        blocks.append(aligned(rows))
    seeds = max(len(own) for own in scores.values())
    note = f"Means over {seeds} seeds and mean paired differences, ± half of the 95% confidence interval."
    return "\n\n".join([*blocks, note if seeds > 1 else "One seed: without confidence intervals."])


def table_csv(scores: Scores, reference: str) -> str:
    """A line for each figure and arm."""
    rows: list[dict[str, Any]] = [
        {"figure": name, "arm": arm, "reference": reference, **own._asdict()}
        for name, arms in compared(scores, reference).items()
        for arm, own in arms.items()
    ]
    return _csv(rows)


def runs_csv(scores: Scores) -> str:
    """A line for each arm and seed."""
    rows: list[dict[str, Any]] = [
        {"arm": arm, "seed": seed, **own} for arm, seeds in scores.items() for seed, own in seeds.items()
    ]
    return _csv(rows)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _spread(interval: float) -> str:
    return "" if math.isnan(interval) else f" ± {interval:.2f}"
