"""Measure instances from image labels, without and with FBR: `python -m benchmarks.instances --help`.

Every run is a pipeline in a folder of its own, so an interrupted comparison continues where it stopped.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.effect.summary import interval
from fbr_plugin.files import write_text

EXAMPLES = Path(__file__).parents[1] / "examples"
WITHOUT = [f"--{stage}.model.gate.enabled=false" for stage in ("classifier", "baseline")]
ARMS = {
    "baseline": WITHOUT,
    "losses": [*WITHOUT, "--baseline.model.fbr.enabled=true"],
    "recommended": [],
}
SHARED = ("classifier", "labels")  # of the baseline and the losses, which are AMN's
STAGES = ("instances", "instance_predictions")
COLUMNS = {
    "ap_25": "AP25",
    "ap_50": "AP50",
    "ap_70": "AP70",
    "ap_75": "AP75",
    "ap_mean": "mean AP",
    "ap_volume": "AP vol",
    "abo": "ABO",
    "coco_ap": "COCO AP",
}
LOADED = ("classifier", "irn", "instance_network")  # AMN starts from the classifier

Result = dict[str, Any]


def words(options: argparse.Namespace, seed: int) -> list[str]:
    """The command of a pipeline of scenes or photos, without an arm."""
    kind = "photos" if options.data else "scenes"
    files = [EXAMPLES / f"{kind}_{name}.yaml" for name in ("pipeline", "instances")]
    given = [f"--config={file}" for file in files] + [f"--seed_everything={seed}"]
    given += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    if not options.data:
        return [*given, f"--data.loading.seed={seed}"]
    given += [f"--data.root={options.data}"]
    return given + [f"--{name}.model.weights={options.weights}" for name in LOADED]


def run_seed(options: argparse.Namespace, seed: int, arms: Sequence[str]) -> list[Result]:
    """Run arms in turn, of which the later ones share stages with the first."""
    results = [run(options, seed, arms[0])]
    for arm in arms[1:]:
        for stage in SHARED:
            source, target = (options.output / f"{name}_{seed}" / stage for name in (arms[0], arm))
            if not target.exists():
                shutil.copytree(source, target)
        results.append(run(options, seed, arm))
    return results


def run(options: argparse.Namespace, seed: int, arm: str) -> Result:
    """Run a pipeline, or read what is known of it; return its scores of instances."""
    folder = options.output / f"{arm}_{seed}"
    command = [sys.executable, "-m", "fbr_plugin", "pipeline", *words(options, seed), *ARMS[arm]]
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run([*command, f"--output={folder}"], stdout=log, stderr=log, env=environment)
    if done.returncode:
        raise SystemExit(f"the run of {arm}, seed {seed}, failed: see {folder / 'log.txt'}")
    print(f"{arm}, seed {seed}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    stages = json.loads((folder / "report.json").read_text())["stages"]
    return {"seed": seed, "arm": arm, **{name: stages[name]["scores"] for name in STAGES}}


def table(results: Sequence[Result]) -> str:
    """For each stage the baseline's mean and deviation, then the paired differences with 95% intervals."""
    arms = {arm: [each for each in results if each["arm"] == arm] for arm in ARMS}
    lines = [f"| stage | arm | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for stage in STAGES:
        for arm, found in arms.items():
            cells = []
            for column in COLUMNS:
                values = [each[stage][column] for each in found]
                known = [each[stage][column] for each in arms["baseline"]]
                if arm == "baseline":
                    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
                    cells.append(f"{mean(values):.1f}{spread}")
                else:
                    gains = [one - other for one, other in zip(values, known, strict=True)]
                    spread = f" ± {interval(gains):.1f}" if len(gains) > 1 else ""
                    cells.append(f"{mean(gains):+.1f}{spread}")
            lines.append(f"| {stage.replace('_', ' ')} | {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rows(results: Sequence[Result]) -> str:
    """The scores of every run as CSV."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("stage", "arm", "seed", *COLUMNS))
    for stage in STAGES:
        for each in results:
            scores = (f"{each[stage][column]:.2f}" for column in COLUMNS)
            writer.writerow((stage, each["arm"], each["seed"], *scores))
    return text.getvalue()


def main() -> None:
    """Run all arms of all seeds and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instances", description=__doc__)
    parser.add_argument("--data", help="a folder of photos with SegmentationObject, in place of the scenes")
    parser.add_argument("--weights", help="with --data: file of SqueezeNet's weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/instances"))
    options = parser.parse_args()
    if bool(options.data) != bool(options.weights):
        parser.error("give --data and --weights together")
    jobs = [(seed, arms) for arms in (("baseline", "losses"), ("recommended",)) for seed in options.seeds]
    with ThreadPoolExecutor(options.workers) as pool:
        results = [each for found in pool.map(lambda job: run_seed(options, *job), jobs) for each in found]
    write_text(options.output / "scores.csv", rows(results))
    write_text(options.output / "scores.md", table(results) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
