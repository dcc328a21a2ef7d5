"""`fbr-plugin pipeline`: from image labels to scored masks by one command, kept stage by stage."""

import json
import logging
import platform
import warnings
from datetime import datetime
from importlib.metadata import version
from typing import Any

from jsonargparse import Namespace

from fbr_plugin.distributed import is_first_process
from fbr_plugin.report import write_whole
from fbr_plugin.workflow import cache
from fbr_plugin.workflow.plan import build_stages
from fbr_plugin.workflow.settings import parser, prepare

PACKAGES = ("fbr_plugin", "torch", "pytorch-lightning", "numpy")
SCORES = {
    "miou_oracle": "seeds, oracle: threshold chosen with the masks",
    "miou_honest": "seeds, threshold chosen without masks",
    "miou_unrefined": "masks before refinement",
    "miou_masks": "masks{refined}",
    "miou_predictions": "masks that the network predicts",
}


def pipeline(args: list[str] | None = None) -> None:
    """Run a command line.

    Args:
        args: the words after `fbr-plugin pipeline`; None takes those of the shell.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it tells of every Trainer
    for known in (
        "but have no `validation_step`",
        "in eval mode at the start of training",  # IRN's encoder is frozen
        "smaller than the logging interval",
        "Using `DistributedSampler`",
    ):
        warnings.filterwarnings("ignore", f".*{known}")
    config = parser().parse_args(args)
    if not config.dry_run:
        prepare(config)
    stages = _chosen(build_stages(config), config)
    if config.dry_run:
        for stage, found in cache.plan(stages, config.output, config["from"]):
            print(f"{stage.name:14}{found.reason}")
        return
    say = print if is_first_process() else _nothing
    records = {}
    for stage, record in cache.run(stages, config.output, config["from"], say):
        records[stage.name] = record
        if is_first_process():
            write_whole(config.output / "report.json", json.dumps(_report(config, records), indent=2))
    say(f"\n{format_table(records)}\n\nmasks, curves and report.json: {config.output}")


def format_table(records: dict[str, cache.Record]) -> str:
    """The mIoU of every stage, laid out for the terminal."""
    lines = [f"{'stage':14}{'what is scored':50}{'mIoU':>7}{'seconds':>9}"]
    lines.append("-" * len(lines[0]))
    for name, record in records.items():
        scores = {key: value for key, value in record["scores"].items() if key in SCORES}
        refiner = record["made_of"]["settings"].get("masks", {}).get("refine")
        refined = f" refined by {refiner}" if refiner else ""
        rows = [(SCORES[key].format(refined=refined), f"{value:7.2f}") for key, value in scores.items()]
        for index, (what, value) in enumerate(rows or [("", "")]):
            first = index == 0
            seconds = f"{record['seconds']:9.0f}" if first else ""
            lines.append(f"{name if first else '':14}{what:50}{value:>7}{seconds}")
    return "\n".join(lines)


def _chosen(stages: list[cache.Stage], config: Namespace) -> list[cache.Stage]:
    """The stages up to the last that is asked for."""
    names = [stage.name for stage in stages]
    for option in ("from", "until"):
        if config[option] not in (None, *names):
            raise ValueError(f"--{option} {config[option]}: this pipeline has the stages {', '.join(names)}")
    until = config.until or names[-1]
    if config["from"] and names.index(config["from"]) > names.index(until):
        raise ValueError(f"--from {config['from']} comes after --until {until}: swap them")
    return stages[: names.index(until) + 1]


def _report(config: Namespace, records: dict[str, cache.Record]) -> dict[str, Any]:
    """What `report.json` holds."""
    return {
        "written": datetime.now().isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "settings": json.loads(parser().dump(config, format="json")),
        "oracle": [name for name in SCORES if "oracle" in name],
        "stages": {
            name: {key: value for key, value in record.items() if key != "files"}
            for name, record in records.items()
        },
    }


def _nothing(_: str) -> None:
    """Say nothing: the first process does."""
