"""Count resumed runs that equal uninterrupted ones: `python -m benchmarks.kills --fit 50 --pipeline 20`.

Each run is killed at a random moment by SIGKILL, SIGTERM or SIGINT in turn, every fourth one twice, and then
resumed to its end. The table has, for each plan, how many ended with equal weights and files.
"""

import argparse
import json
import logging
import random
import shutil
import signal
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.kills import plans
from benchmarks.kills.compare import newest, pipeline_difference, training_difference
from benchmarks.kills.processes import SIGNALS, Ended, run
from fbr_plugin.files import write_text


def kill_fit(name: str, folder: Path, labels: Path, number: int, draw: random.Random) -> dict[str, Any]:
    """Kill a training once or twice, resume it, and compare it with the uninterrupted one."""
    plan = plans.PLANS[name]
    config = plans.write(plans.fit_settings(plan, labels), folder / f"{name}.yaml")
    alone = plan[2].get("trainer", {}).get("devices", 1) > 1
    elsewhere = folder / "temporary"
    elsewhere.mkdir(exist_ok=True)
    temporary = elsewhere if "temporary" in plan[2] else None

    def fit(into: Path, start: Path | None, kill: signal.Signals | None = None, after: float = 0.0) -> Any:
        words = ["fit", "--config", str(config), "--trainer.default_root_dir", str(into)]
        words += ["--ckpt_path", str(start)] if start else []
        begun = (into / "config.yaml").exists
        return run(words, folder / f"{name}.log", begun, kill, after, temporary, alone)

    whole, seconds = folder / f"{name} whole", folder / f"{name}.seconds"
    if not seconds.exists():
        shutil.rmtree(whole, ignore_errors=True)
        ended = fit(whole, None)
        assert ended.status == 0, f"{name} does not end: see {folder / name}.log"
        seconds.write_text(str(ended.seconds))
    start, statuses = None, []
    for part in range(2 if number % 4 == 3 else 1):
        kill, into = SIGNALS[(number + part) % 3], folder / f"{name} {number} {part}"
        ended, after = Ended(0, killed=False, seconds=0), draw.uniform(0.0, float(seconds.read_text()))
        while ended.status == 0:  # it was sent too late
            shutil.rmtree(into, ignore_errors=True)
            ended, after = fit(into, start, kill, after), 0.7 * after
        statuses.append((kill.name, round(after / 0.7, 2), ended.status))
        start = newest(into) or start
    into = folder / f"{name} {number} end"
    shutil.rmtree(into, ignore_errors=True)
    if fit(into, start).status:
        return {"plan": name, "killed": statuses, "difference": "the resumed run failed"}
    found = training_difference(whole, into if newest(into) else start.parents[1] if start else into)
    return {"plan": name, "killed": statuses, "from": str(start), "difference": found}


def kill_pipeline(folder: Path, number: int, draw: random.Random) -> dict[str, Any]:
    """Kill a pipeline once or twice, start it again, and compare it with the uninterrupted one."""
    config = plans.write(plans.pipeline_settings(), folder / "pipeline.yaml")

    def pipeline(output: Path, kill: signal.Signals | None = None, after: float = 0.0) -> Any:
        words = ["pipeline", "--config", str(config), "--output", str(output)]
        return run(words, folder / "pipeline.log", (output / ".lock").exists, kill, after)

    whole, seconds = folder / "pipeline whole", folder / "pipeline.seconds"
    if not seconds.exists():
        shutil.rmtree(whole, ignore_errors=True)
        ended = pipeline(whole)
        assert ended.status == 0, f"the pipeline does not end: see {folder / 'pipeline.log'}"
        seconds.write_text(str(ended.seconds))
    output, statuses = folder / f"pipeline {number}", []
    shutil.rmtree(output, ignore_errors=True)
    for part in range(2 if number % 4 == 3 else 1):
        kill, before = SIGNALS[(number + part) % 3], folder / "before"
        ended, after = Ended(0, killed=False, seconds=0), draw.uniform(0.0, float(seconds.read_text()))
        shutil.rmtree(before, ignore_errors=True)
        if output.exists():
            shutil.copytree(output, before)
        while ended.status == 0:  # it was sent too late
            shutil.rmtree(output, ignore_errors=True)
            if before.exists():
                shutil.copytree(before, output)
            ended, after = pipeline(output, kill, after), 0.7 * after
        statuses.append((kill.name, round(after / 0.7, 2), ended.status))
    if pipeline(output).status:
        return {"plan": "pipeline", "killed": statuses, "difference": "the second run failed"}
    return {"plan": "pipeline", "killed": statuses, "difference": pipeline_difference(whole, output)}


def main() -> None:
    """Kill as many runs as asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", type=int, default=50, help="trainings to kill")
    parser.add_argument("--pipeline", type=int, default=20, help="pipelines to kill")
    parser.add_argument("--plans", nargs="+", choices=plans.PLANS, default=[*plans.PLANS])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, default=Path("kills"), help="folder of the runs")
    config = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    folder = config.output.absolute()
    labels, draw = plans.prepare(folder / "labels"), random.Random(config.seed)
    results = []
    for number in range(config.fit):
        name = config.plans[number % len(config.plans)]
        results.append(kill_fit(name, folder, labels, number, draw))
        print(json.dumps(results[-1]), flush=True)
    for number in range(config.pipeline):
        results.append(kill_pipeline(folder, number, draw))
        print(json.dumps(results[-1]), flush=True)
    write_text(folder / "kills.json", json.dumps(results, indent=1))
    print(f"\n{table(results)}")


def table(results: list[dict[str, Any]]) -> str:
    """How many runs of each plan were killed, and how many ended equal."""
    lines = [f"{'plan':28}{'runs':>6}{'kills':>7}{'equal':>7}"]
    for name in dict.fromkeys(result["plan"] for result in results):
        own = [result for result in results if result["plan"] == name]
        kills = sum(len(result["killed"]) for result in own)
        equal = sum(result["difference"] is None for result in own)
        lines.append(f"{name:28}{len(own):6}{kills:7}{equal:7}")
    first = [f"{result['plan']}: {result['difference']}" for result in results if result["difference"]]
    return "\n".join([*lines, *islice(first, 10)])


if __name__ == "__main__":
    main()
