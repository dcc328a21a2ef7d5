"""Draw what the gate does in every setting that was run: `python -m benchmarks.effect.overview --help`."""

import argparse
import json
from pathlib import Path

from benchmarks.effect.figure import differences
from benchmarks.effect.runs import STAGES
from benchmarks.effect.summary import Pairs, Result, csv, pairs_by_variant
from fbr_plugin import figures
from fbr_plugin.files import write_text

# Rows of the figure: the folder of a setting, the variant in it, and what the row is called.
ROWS = (
    ("default_small_64", "seed control", "scenes: another training seed"),
    ("default_small_64", "published", "scenes: published losses"),
    ("default_small_64", "recommended", "scenes: gate"),
    ("default_small_64", "recommended labels", "scenes: gated labels and gate"),
    ("hard_small_64", "recommended", "hard scenes: gate"),
    ("control_small_64", "recommended", "control scenes: gate"),
    ("never_small_64", "seed control", "scenes without evidence: another training seed"),
    ("never_small_64", "recommended", "scenes without evidence: gate"),
    ("default_small_96", "recommended", "scenes of 96 pixels: gate"),
    ("default_resnet10t_64", "recommended", "scenes, ResNet-10-T: gate"),
    ("msrc_torchvision_squeezenet1_0_204", "seed control", "MSRC: another training seed"),
    ("msrc_torchvision_squeezenet1_0_204", "losses", "MSRC: losses"),
    ("msrc_torchvision_squeezenet1_0_204", "recommended", "MSRC: gate"),
    ("msrc_torchvision_squeezenet1_0_204", "gate + losses", "MSRC: gate and losses"),
    ("msrc_torchvision_squeezenet1_0_204", "gated labels", "MSRC: gated labels"),
    ("msrc_torchvision_squeezenet1_0_204", "gated labels + gate", "MSRC: gated labels and gate"),
    ("ccp5_torchvision_squeezenet1_0_204", "seed control", "ccp5: another training seed"),
    ("ccp5_torchvision_squeezenet1_0_204", "recommended", "ccp5: gate"),
    ("ccp5_small_96", "recommended", "ccp5, from scratch: gate"),
)
FRESH = 10  # seeds from here on no decision has seen


def fresh_runs(output: Path, setting: str) -> list[Result]:
    """The runs of a setting on seeds that no decision has seen."""
    paths = sorted((output / setting).glob("seed_*/*/*.json"))
    return [run for path in paths if (run := json.loads(path.read_text()))["seed"] >= FRESH]


def overview(output: Path) -> dict[tuple[str, str], Pairs]:
    """The results of every row of the figure, beside those of the baseline, for each stage.

    Args:
        output: folder of all results.
    """
    rows: dict[tuple[str, str], Pairs] = {}
    for setting, variant, title in ROWS:
        pairs = pairs_by_variant(fresh_runs(output, setting))
        rows |= {(stage, title): pairs[stage, variant] for stage in STAGES if (stage, variant) in pairs}
    return rows


def main() -> None:
    """Draw the figure, and write the figures of every run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effect.overview", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/effect"), help="of the runs")
    output = parser.parse_args().output
    figures.save(differences(overview(output)), output / "overview.png")
    lines = []
    for setting in dict.fromkeys(setting for setting, _, _ in ROWS):
        head, *runs = csv(fresh_runs(output, setting)).splitlines()
        lines += [f"{setting},{run}" for run in runs]
    write_text(output / "overview.csv", "\n".join([f"setting,{head}", *lines]) + "\n")


if __name__ == "__main__":
    main()
