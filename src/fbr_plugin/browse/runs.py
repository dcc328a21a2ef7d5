"""What the folder of a run holds: seeds, masks or instances, maps of FBR, or a pipeline's stages."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fbr_plugin.data.readers.files import find_file
from fbr_plugin.data.readers.limits import is_file_name
from fbr_plugin.errors import InputError, MissingFileError
from fbr_plugin.pipeline.record import read_record
from fbr_plugin.postprocess.comparison import Predictions, titles
from fbr_plugin.training.fbr_maps import GATE, NROI

KINDS = {".png": "masks", ".npy": "seeds", ".npz": "seeds", ".json": "instances"} | {
    f".{kind}.png": kind for kind in (GATE, NROI)
}
MAPS = {GATE: "lowered by the gate", NROI: "NROIs"}
"""Folders of maps of what FBR makes of the images, and what they are called."""


def open_runs(
    runs: Sequence[Path], ids: Sequence[str], names: Sequence[str] | None = None
) -> list[Predictions]:
    """The folders with predictions of some images in runs, in the order of the runs and of their stages.

    Args:
        runs: each a folder of seeds, masks or instances, or the output of a pipeline.
        ids: of the images; a folder without a file of any of them is left out.
        names: what the runs are called; None takes the ends of their paths.
    """
    for run in runs:
        if not run.is_dir():
            raise MissingFileError(f"{run} does not exist: name a run's folder")
    if len(set(map(Path.resolve, runs))) < len(runs):
        raise InputError(f"a run is given twice: {', '.join(map(str, runs))}; give each once")
    called = list(names or titles(runs))
    if len({*called}) != len(runs):
        raise InputError(f"--names {' '.join(called)}: give each of the {len(runs)} runs a name of its own")
    found = []
    for run, title in zip(runs, called, strict=True):
        own = []
        for stage, folder in _folders(run):
            if suffix := _suffix(folder, ids):
                words = [title, stage] if len(runs) > 1 else [stage or title]
                own.append(Predictions(" ".join(words).strip(), folder, suffix, None))
        if not own:
            raise InputError(
                f"{run} holds neither seeds (ID.npy, ID.npz) nor masks (ID.png) nor instances (ID.json) of "
                f"the {len(ids)} images, such as {ids[0]}: name a folder of these, or a pipeline's output"
            )
        found += own
    return found


def pipeline_report(run: Path) -> dict[str, Any]:
    """The report of a pipeline in its output folder; empty for any other folder."""
    try:
        report = json.loads((run / "report.json").read_text())
        known = isinstance(report["settings"]["data"], dict) and isinstance(report["stages"], dict)
        return report if known and all(map(is_file_name, report["stages"])) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _folders(run: Path) -> Iterator[tuple[str, Path]]:
    """The folders of a run that may hold predictions, each with its stage; a run without stages is one."""
    stages = pipeline_report(run).get("stages")
    if stages is None:
        yield "", run
        for name, title in MAPS.items():
            yield title, run / name
        return
    for stage in stages:
        if read_record(run / stage):
            inner = sorted(folder for folder in (run / stage).iterdir() if folder.is_dir())
            for folder in (run / stage, *reversed(inner)):  # masks before refinement come first
                title = stage.replace("_", " ")
                if folder.name in MAPS:
                    title = f"{title}: {MAPS[folder.name]}"
                yield "unrefined" if folder.name == "unrefined" else title, folder


def _suffix(folder: Path, ids: Sequence[str]) -> str | None:
    """The suffix of the files of some images in a folder; None if it has none."""
    found = [kind for kind in KINDS if any(find_file(folder, name, (kind,)).is_file() for name in ids)]
    if len(found) > 1:
        raise InputError(
            f"{folder} holds files {' and '.join(found)} of the same images: name a folder of one kind"
        )
    return found[0] if found else None
