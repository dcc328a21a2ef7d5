"""What runs made, and the first difference between two."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")


def newest(folder: Path) -> Path | None:
    """The checkpoint of a run that holds most steps."""
    files = [path for path in folder.glob("checkpoints/*.ckpt") if not path.name.startswith(".")]
    return max(files, key=lambda path: (steps(path), path.stat().st_mtime_ns), default=None)


def steps(path: Path) -> int:
    """The number of steps in a checkpoint."""
    return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])


def training_difference(whole: Path, resumed: Path) -> str | None:
    """The first difference between the last checkpoints of two runs, and between the rows of their curves."""
    ours, theirs = newest(whole), newest(resumed)
    if ours is None or theirs is None:
        return f"no checkpoint in {resumed if ours else whole}"
    one, other = (torch.load(path, map_location="cpu", weights_only=True) for path in (ours, theirs))
    for name in KEPT:
        if found := difference(one[name], other[name], name):
            return found
    best = [_best(each) for each in (one, other)]
    if best[0] != best[1]:
        return f"best score: {best[0]} and {best[1]}"
    rows = _rows(whole)
    for step, row in _rows(resumed).items():
        if row != rows.get(step):
            return f"curves at step {step}: {rows.get(step)} and {row}"
    return None


def pipeline_difference(whole: Path, resumed: Path) -> str | None:
    """The first difference between the files of two pipelines, without curves, times and hidden files."""
    ours, theirs = _files(whole), _files(resumed)
    if ours.keys() != theirs.keys():
        return f"files: {sorted(ours.keys() ^ theirs.keys())[:3]}"
    return next((name for name in ours if ours[name] != theirs[name]), None)


def difference(one: Any, other: Any, name: str) -> str | None:
    """The name of the first tensor or value that differs."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        return None if same else name
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"{name}: {sorted(map(str, one.keys() ^ other.keys()))[:3]}"
        parts = (difference(one[key], other[key], f"{name}.{key}") for key in one)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        parts = (difference(a, b, f"{name}.{row}") for row, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        return None if one == other else f"{name}: {one} and {other}"
    return next((found for found in parts if found), None)


def _best(checkpoint: dict[str, Any]) -> float | None:
    score = checkpoint["callbacks"].get("BestCheckpoint", {}).get("best_model_score")
    return None if score is None else float(score)


def _rows(folder: Path) -> dict[tuple[str, bool], dict[str, str]]:
    """The rows of a run's curves by step and kind."""
    path = folder / "metrics.csv"
    if not path.exists():
        return {}
    rows: dict[tuple[str, bool], dict[str, str]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            shown = {key: value for key, value in row.items() if value and key not in ("epoch", "step")}
            rows.setdefault((row["step"], any(key.startswith("val/") for key in shown)), {}).update(shown)
    return rows


def _files(folder: Path) -> dict[str, bytes]:
    """The content of a pipeline's files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or "curves" in parts or parts[-1].startswith(".") or parts[-1] == "report.json":
            continue
        content = path.read_bytes()
        if parts[-1] == "stage.json":
            record = json.loads(content)
            content = json.dumps({**record, "seconds": 0, "resumed": False}, sort_keys=True).encode()
        found["/".join(parts)] = content
    return found
