"""Paired differences over random seeds with confidence intervals, and tables of text."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from scipy.stats import t as student_t


class Paired(NamedTuple):
    """A figure of an arm over its seeds, beside the same of a reference.

    Attributes:
        seeds: number of seeds of the arm.
        mean: mean over the seeds.
        interval: half the width of the mean's 95% confidence interval; nan for a single seed.
        difference: mean difference to the reference over the seeds that both have; nan without any.
        difference_interval: half the width of its 95% confidence interval.
        won: seeds in which the arm's figure is the greater one.
    """

    seeds: int
    mean: float
    interval: float
    difference: float
    difference_interval: float
    won: int


def paired(own: Mapping[int, float], reference: Mapping[int, float]) -> Paired:
    """Compare an arm with a reference.

    Args:
        own: the arm's figure of each seed, at least one.
        reference: the reference's figure of each seed.
    """
    values = list(own.values())
    differences = [own[seed] - reference[seed] for seed in own if seed in reference]
    return Paired(
        len(values),
        mean(values),
        interval(values),
        mean(differences) if differences else math.nan,
        interval(differences),
        sum(difference > 0 for difference in differences),
    )


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95% confidence interval of the mean, by Student's t; nan for fewer than 2."""
    if len(values) < 2:
        return math.nan
    return float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table of text: the first column to the left, the others to the right, a rule below the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{'<' if n == 0 else '>'}{widths[n]}}" for n, cell in enumerate(row)) for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
