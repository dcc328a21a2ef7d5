"""Estimated hours, memory and disk of each recipe on 1, 4 and 8 GPUs: `python -m benchmarks.recipe_cost`.

The operations of all steps and predictions are counted on networks with random weights. Hours follow from
the peak of a GPU and the share of it that networks reach (`sheet.py`); `--device cuda` measures them instead.
What runs on the CPU is measured: reading photos, the CRF, the random walk and the metrics of localization.
Needs the extra `[crf]`.
"""

import argparse
import csv
import io
import warnings
from pathlib import Path

from benchmarks.recipe_cost.sheet import DEVICES, RANGE, RECIPES, USED, Part, Sheet
from fbr_plugin.files import write_text

HEAD = """| recipe | steps | GPU hours | wall hours on 1 / 4 / 8 | GB on each of 1 / 4 / 8 | disk, GB |
|---|---|---|---|---|---|"""
COLUMNS = (
    "recipe",
    "part",
    "steps or photos",
    "batch",
    "GFLOP an image",
    "measured seconds an image",
    "MB saved an image",
    "MB fixed",
    "reading seconds",
    "pooled seconds",
    "serial seconds",
    "MB on disk",
    *(f"hours on {devices}" for devices in DEVICES),
)


def row(recipe: str, parts: list[Part], used: float) -> str:
    """A row of the table; a gigabyte has 1e9 bytes."""
    trained = [part for part in parts if part.at_once]
    steps = ", ".join(f"{part.name} {part.times:,}".replace(",", " ") for part in trained)
    usual, *others = (
        sum(part.computing(share) for part in parts) for share in ((used, *RANGE) if used else (0,))
    )
    spread = f" ({' to '.join(map(rounded, others))})" if others else ""
    wall = (rounded(sum(part.hours(devices, used) for part in parts)) for devices in DEVICES)
    memory = (rounded(max(part.memory(devices) for part in trained) / 1e9) for devices in DEVICES)
    disk = rounded(sum(part.disk for part in parts) / 1e9)
    cells = (f"`{recipe}`", steps, rounded(usual) + spread, " / ".join(wall), " / ".join(memory), disk)
    return f"| {' | '.join(cells)} |"


def rounded(value: float) -> str:
    """A number with two digits, or more from 100 on."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def line(recipe: str, part: Part, used: float) -> list[str | int]:
    """A line of the CSV file."""
    cost, hours = part.cost, (part.hours(devices, used) for devices in DEVICES)
    of_image = (cost.flops / 1e9, cost.seconds, cost.saved / 1e6, cost.fixed / 1e6)
    figures = (*of_image, part.reading, part.pooled, part.serial, part.disk / 1e6, *hours)
    return [recipe, part.name, part.times, part.batch, *(f"{value:.4g}" for value in figures)]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe_cost", description=__doc__)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="such as voc/amn; default: all")
    parser.add_argument("--device", default="cpu", help="on which to measure; default: %(default)s")
    parser.add_argument(
        "--images", type=int, help="in a measured step; default: 2, on a GPU the recipe's batch"
    )
    parser.add_argument("--repeats", type=int, default=1, help="timed steps, or 0; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("docs/recipe_cost.csv"), help="default: %(default)s")
    options = parser.parse_args()
    if unknown := {*options.recipes} - {*RECIPES}:
        parser.error(f"there is no recipe {', '.join(sorted(unknown))}: choose from {', '.join(RECIPES)}")
    used = USED if options.device == "cpu" else 0.0
    options.images = options.images or (2 if used else None)  # some heads need two
    warnings.simplefilter("ignore")  # of steps without a Trainer
    rows, file = [HEAD], io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for recipe in options.recipes or RECIPES:
        parts = Sheet(recipe, options).parts()
        rows.append(row(recipe, parts, used))
        writer.writerows(line(recipe, part, used) for part in parts)
    write_text(options.out, file.getvalue())
    print("\n".join(rows))


if __name__ == "__main__":
    main()
