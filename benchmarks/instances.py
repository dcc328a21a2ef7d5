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

import torch
from matplotlib.figure import Figure

from benchmarks.effect.summary import interval
from fbr_plugin import figures
from fbr_plugin.data import FolderDataModule, Lists, Loading, SyntheticDataModule
from fbr_plugin.data.instances.arrays import to_tensors
from fbr_plugin.data.instances.files import instances_path, read_instances
from fbr_plugin.files import write_text

EXAMPLES = Path(__file__).parents[1] / "examples"
WITHOUT = [f"--{stage}.model.gate.enabled=false" for stage in ("classifier", "baseline")]
ARMS = {
    "baseline": WITHOUT,
    "losses": [*WITHOUT, "--baseline.model.fbr.enabled=true"],
    "recommended": [],
}
SHARED = ("classifier", "labels")  # of the baseline and the losses, which are AMN's
BACKGROUNDS = (0.25, 0.5, 0.7)  # of which the first is the published one
ROWS = {
    "instances": "instances, background .25",
    "fixed": "instances, the baseline's best background",
    "oracle": "instances, the best background of each",
    "instance_predictions": "Mask R-CNN",
}
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
PICTURED = 4  # images with several instances
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
    """Run an arm, or read what is known of it; return its scores of instances, at all backgrounds."""
    folder, start = options.output / f"{arm}_{seed}", time.monotonic()
    given = [*words(options, seed), *ARMS[arm]]
    until = ["--until=instances"] if options.masks_only else []
    stages = pipeline(folder, [*given, *until])
    print(f"{arm}, seed {seed}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    found = {name: stages[name] for name in ROWS if name in stages}
    others = {BACKGROUNDS[0]: stages["instances"]}
    for background in BACKGROUNDS[1:]:
        copy = folder / f"background_{background}"
        for stage in [*stages][: [*stages].index("instances")]:
            if not (copy / stage).exists():
                shutil.copytree(folder / stage, copy / stage)
        own = [f"--instances.background={background}", "--until=instances"]
        others[background] = pipeline(copy, [*given, *own])["instances"]
    return {"seed": seed, "arm": arm, "backgrounds": others, **found}


def pipeline(folder: Path, given: Sequence[str]) -> dict[str, dict[str, float]]:
    """Run a pipeline, or what is left of it; return the scores of its stages."""
    command = [sys.executable, "-m", "fbr_plugin", "pipeline", *given, f"--output={folder}"]
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=environment)
    if done.returncode:
        raise SystemExit(f"a run failed: see {folder / 'log.txt'}")
    stages = json.loads((folder / "report.json").read_text())["stages"]
    return {name: stage["scores"] for name, stage in stages.items()}


def chosen(results: Sequence[Result]) -> list[Result]:
    """The results with their scores at the best background of the same seed's baseline, and at their own."""
    best = {(each["seed"], each["arm"]): best_background(each["backgrounds"]) for each in results}
    return [
        {
            **each,
            "fixed": each["backgrounds"][best[each["seed"], "baseline"]],
            "oracle": each["backgrounds"][best[each["seed"], each["arm"]]],
        }
        for each in results
    ]


def best_background(scores: dict[float, dict[str, float]]) -> float:
    """The background with the highest mean AP; of several the first."""
    return max(scores, key=lambda background: scores[background]["ap_mean"])


def known_rows(results: Sequence[Result]) -> list[str]:
    """The rows for which every run has scores: without Mask R-CNN, where it was left out."""
    return [stage for stage in ROWS if all(stage in each for each in results)]


def table(results: Sequence[Result]) -> str:
    """For each stage the baseline's mean and deviation, then the paired differences with 95% intervals."""
    arms = {arm: [each for each in results if each["arm"] == arm] for arm in ARMS}
    lines = [f"| stage | arm | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for stage in known_rows(results):
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
            lines.append(f"| {ROWS[stage]} | {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(options: argparse.Namespace) -> Figure:
    """The true instances, and those without and with FBR, of some images of the first seed."""
    seed = options.seeds[0]
    data = (
        FolderDataModule(options.data, lists=Lists(val="train"), instances="eval")
        if options.data
        else SyntheticDataModule(num_images=200, loading=Loading(seed=seed), instances="eval")
    )
    source = data.dataset("test").source
    items = (source[index] for index in range(0, len(source), 7))
    shown = [item for item in items if len(item["instances"]["labels"]) > 1][:PICTURED]
    photos = [torch.from_numpy(item["image"]).permute(2, 0, 1) / 255 for item in shown]
    columns = {"truth": [to_tensors(item["instances"]) for item in shown]}
    for arm in ARMS:
        folder = options.output / f"{arm}_{seed}" / "instances" / "instances"
        files = [instances_path(folder, item["id"]) for item in shown]
        columns[arm] = [to_tensors(read_instances(path, data.num_classes)) for path in files]
    rule = f"The first {PICTURED} of every seventh image that have several instances."
    return figures.instances_over_images(photos, columns, data.class_names, note=rule)


def rows(results: Sequence[Result]) -> str:
    """The scores of every run as CSV."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("stage", "arm", "seed", *COLUMNS))
    for stage in known_rows(results):
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
    parser.add_argument("--masks-only", action="store_true", help="leave out Mask R-CNN")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/instances"))
    options = parser.parse_args()
    if bool(options.data) != bool(options.weights):
        parser.error("give --data and --weights together")
    jobs = [(seed, arms) for arms in (("baseline", "losses"), ("recommended",)) for seed in options.seeds]
    with ThreadPoolExecutor(options.workers) as pool:
        found = list(pool.map(lambda job: run_seed(options, *job), jobs))
    results = chosen([each for own in found for each in own])
    write_text(options.output / "scores.csv", rows(results))
    write_text(options.output / "scores.md", table(results) + "\n")
    figures.save(picture(options), options.output / "instances.png")
    print(table(results))


if __name__ == "__main__":
    main()
