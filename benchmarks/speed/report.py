"""The machine, the tables for the terminal, and the same tables in docs/performance.md."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch

from fbr_plugin.files import write_text

WIDTHS = (38, 9, 9, 8, 18, 9, 9)
COLUMNS = ("", "released", "ours", "times", "of a round", "MB rel.", "MB ours")
HEAD = """| | released, s | ours, s | times faster | rounds | MB released | MB ours | checked |
|---|---|---|---|---|---|---|---|"""
END = "\n\n<!-- end -->"  # a table needs empty lines around it


def machine() -> dict[str, Any]:
    """The processor, its cores, the versions, and the load."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def cells(found: dict[str, Any]) -> list[str]:
    """The figures of a line: seconds, ratio, its range and megabytes; "-" for what was not measured."""
    seconds, memory = found.get("seconds", {}), found.get("memory", {})
    times = [figure(seconds.get(arm)) for arm in ("released", "ours")]
    ratio = f"{found['ratio']:.2f}" if "ratio" in found else "-"
    lowest, highest = found.get("ratio of a round", (None, None))
    spread = f"{lowest:.2f} to {highest:.2f}" if lowest is not None else "-"
    return [*times, ratio, spread, *(figure(memory.get(arm), 0) for arm in ("released", "ours"))]


def figure(value: float | None, digits: int = 3) -> str:
    """A number with three significant digits, or none behind the point; "-" for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if not digits or value >= 100 else f"{value:.{digits}g}"


def row(found: dict[str, Any]) -> str:
    """A line of the table for the terminal."""
    text = aligned([found["title"], *cells(found)])
    reason = f"  not measured: {found['not measured']}" if "not measured" in found else ""
    return text + reason


def head() -> str:
    """The head of the table for the terminal."""
    return aligned(COLUMNS)


def aligned(columns: Sequence[str]) -> str:
    """The cells of a line, the first one on the left."""
    first, *others = (f"{cell:>{width}}" for cell, width in zip(columns, WIDTHS, strict=True))
    return "".join([f"{first.strip():<{WIDTHS[0]}}", *others])


def markdown(result: dict[str, Any]) -> str:
    """The lines as a table of a document."""
    rows = [HEAD]
    for found in result["lines"]:
        checked = found.get("agreement") or "-"
        if "not measured" in found:
            checked = f"not measured: {found['not measured']}"
        size = f"; {found['size']}" if "size" in found else ""
        note = f": {found['note']}" if found["note"] else ""
        about = f"**{found['title']}**{size}. `{found['released']}`{note}"
        rows.append(f"| {' | '.join([about, *cells(found), checked])} |")
    return "\n".join(rows)


def growth_table(result: dict[str, Any]) -> str:
    """The exponents of growth as a table of a document."""
    rows = ["| | sizes | milliseconds | power of time | MB | power of memory |", "|---|---|---|---|---|---|"]
    for name, found in result["growth"].items():
        if name == "load":
            continue
        sizes = " / ".join(f"{size:,}".replace(",", " ") for size in found["sizes"])
        times = " / ".join(f"{1000 * each:.0f}" for each in found["seconds"])
        memory = " / ".join(figure(each, 0) for each in found["memory"])
        powers = [f"{found[key]:.2f}" if key in found else "-" for key in POWERS]
        rows.append(f"| {name} | {sizes} | {times} | {powers[0]} | {memory} | {powers[1]} |")
    return "\n".join(rows)


POWERS = ("exponent of time", "exponent of memory")


def share_table(result: dict[str, Any]) -> str:
    """The shares of FBR's losses and of the gate as a table of a document."""
    found = result["shares"]
    rows = {
        "FBR's losses, of a training step of AMN with them": found["losses, %"]["FBR"],
        "of it the projections of 2048 channels": found["losses, %"]["its projections"],
        "the gate, of a training step of AMN with it": found["gate, %"]["share of a step, %"],
        "the gate, added to the inference of AMN at one scale": found["gate, %"]["added to inference, %"],
    }
    return "\n".join(["| | % |", "|---|---|", *(f"| {name} | {value:.1f} |" for name, value in rows.items())])


def machine_text(result: dict[str, Any]) -> str:
    """The machine in a sentence."""
    its = result["machine"]
    rounds = "A quick run, of smaller sizes. " if result["quick"] else ""
    return fill(
        f"{rounds}{its['cpu']}, one of {its['cores']} cores, {its['capability']}, Python {its['python']}, "
        f"torch {its['torch']}, NumPy {its['numpy']}; load {its['load'][0]} before and "
        f"{result['load at the end']:.2f} after {result['minutes']} minutes.",
        width=120,
    )


def others(result: dict[str, Any]) -> str:
    """The shares and the growth for the terminal."""
    return f"{share_table(result)}\n\n{growth_table(result)}"


def tables(result: dict[str, Any]) -> dict[str, str]:
    """What the page takes from the figures, by the names of its parts."""
    return {
        "machine": machine_text(result),
        "lines": markdown(result),
        "shares": share_table(result),
        "growth": growth_table(result),
    }


def filled(page: str, result: dict[str, Any]) -> str:
    """The page with its parts made from the figures; a part ends with the next `<!-- end -->`."""
    for name, text in tables(result).items():
        begin = f"<!-- {name} -->\n\n"
        before, _, rest = page.partition(begin)
        page = before + begin + text + rest[rest.index(END) :]
    return page


def document(folder: Path, result: dict[str, Any]) -> None:
    """Write performance.json, and its tables into performance.md."""
    write_text(folder / "performance.json", json.dumps(result, indent=1) + "\n")
    page = folder / "performance.md"
    write_text(page, filled(page.read_text(), result))
