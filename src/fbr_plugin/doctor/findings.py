"""What a check found, with a remedy, and how it is printed."""

import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, get_args

from fbr_plugin.errors import UserError, short

Severity = Literal["error", "warning", "note"]
"""Training stops or learns from wrong data; probably not meant; right here, but perhaps not elsewhere."""

_NAMED = 3  # cases that the table spells out
_WIDTH = 110
_LONGEST = 300  # characters of a case


class Finding(NamedTuple):
    """A fault of a data set.

    Attributes:
        severity: how bad it is.
        what: the fault in a few words.
        cases: ids, or the files, lines or classes concerned.
        remedy: what to do.
    """

    severity: Severity
    what: str
    cases: tuple[str, ...]
    remedy: str


class Report:
    """Findings and figures, collected by the checks.

    Attributes:
        findings: in the order of the checks.
        figures: lines about the data that are no faults.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.figures: list[str] = []

    @property
    def errors(self) -> int:
        """The number of errors: findings with which training would stop, or learn from wrong data."""
        return sum(finding.severity == "error" for finding in self.findings)

    def add(self, severity: Severity, what: str, cases: Iterable[str], remedy: str) -> None:
        """Add a finding, unless it has no case."""
        if found := tuple(cases):
            self.findings.append(Finding(severity, what, found, remedy))

    @contextmanager
    def collecting(self, what: str, known: int = 0) -> Iterator[None]:
        """Turn a user's mistake in the block into a finding, unless there are more errors than `known`.

        These explain it already.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what training warns of has findings of its own
                yield
        except (UserError, FileNotFoundError, UnicodeError) as error:
            if self.errors <= known:
                self.add("error", what, [type(error).__name__], " ".join(str(error).split()))


def table(report: Report, every_case: bool = False) -> str:
    """The findings, the worst first, each with its remedy, after the figures.

    Args:
        report: what was found.
        every_case: name all cases of a finding, not the first three.
    """
    order = get_args(Severity)
    lines = [*report.figures, ""] if report.figures else []
    for found in sorted(report.findings, key=lambda finding: order.index(finding.severity)):
        named = len(found.cases) if every_case else _NAMED
        cases = ", ".join(short(each, _LONGEST) for each in found.cases[:named]) + (
            ", ..." if len(found.cases) > named else ""
        )
        lines.append(f"{found.severity:7} {len(found.cases):6}  {found.what}: {cases}")
        lines += textwrap.wrap(
            found.remedy, _WIDTH, initial_indent=" " * 16 + "-> ", subsequent_indent=" " * 19
        )
    counts = [sum(each.severity == name for each in report.findings) for name in order]
    totals = (f"{n} {name}{'' if n == 1 else 's'}" for n, name in zip(counts, order, strict=True) if n)
    return "\n".join([*lines, ", ".join(totals) or "nothing found"])
