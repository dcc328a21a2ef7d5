"""The scores of a pipeline's stages, as a table and as JSON."""

import platform
from datetime import datetime
from importlib.metadata import version
from typing import Any

from fbr_plugin.pipeline.record import StageRecord

PACKAGES = ("fbr_plugin", "torch", "pytorch-lightning", "numpy")


SCORES = {
    "miou_oracle": "seeds, oracle: threshold chosen with the masks",
    "miou_label_free": "seeds, threshold chosen without masks",
    "loss_calibrated": "expected loss of the calibrated threshold",
    "miou_unrefined": "masks before refinement",
    "miou_masks": "masks{refined}",
    "miou_predictions": "masks that the network predicts",
    "ap_25": "instances, AP at IoU .25",
    "ap_50": "instances, AP at IoU .50",
    "ap_70": "instances, AP at IoU .70",
    "ap_75": "instances, AP at IoU .75",
    "ap_mean": "instances, mean of these",
}


def stage_table(records: dict[str, StageRecord]) -> str:
    """A table of every stage's scores for the terminal, and what its threshold is expected to lose."""
    lines = [f"{'stage':21}{'what is scored':50}{'score':>7}{'seconds':>9}"]
    lines.append("-" * len(lines[0]))
    for name, record in records.items():
        scores = {key: value for key, value in record["scores"].items() if key in SCORES}
        refiner = record["made_of"]["settings"].get("masks", {}).get("refine")
        refined = f" refined by {refiner}" if refiner else ""
        rows = [(SCORES[key].format(refined=refined), f"{value:7.2f}") for key, value in scores.items()]
        for index, (what, value) in enumerate(rows or [("", "")]):
            first = index == 0
            seconds = f"{record['seconds']:9.0f}" if first else ""
            lines.append(f"{name if first else '':21}{what:50}{value:>7}{seconds}")
    return "\n".join(lines)


def build_report(settings: dict[str, Any], records: dict[str, StageRecord]) -> dict[str, Any]:
    """The content of `report.json`."""
    return {
        "written": datetime.now().isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "settings": settings,
        "oracle": [name for name in SCORES if "oracle" in name],
        "stages": {
            name: {key: value for key, value in record.items() if key != "files"}
            for name, record in records.items()
        },
    }
