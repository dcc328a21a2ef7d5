"""The record of a stage's result: what it was made of, and the hash of each of its files."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD = "stage.json"
CURVES = "curves"  # folder of a training's logs, which no later stage reads
StageRecord = dict[str, Any]
Scores = dict[str, float]


@dataclass(frozen=True)
class PipelineStage:
    """A step of the pipeline, which fills a folder.

    Args:
        name: name of the stage and of its folder.
        settings: everything that determines its result besides the results that it needs; JSON.
        make: fills a folder, given the folders of the stages in `needs` by name, and returns its scores.
            Files already in the folder are from an interrupted call with the same settings.
        needs: names of the stages whose results it starts from.
    """

    name: str
    settings: dict[str, Any]
    make: Callable[[Path, dict[str, Path]], Scores]
    needs: tuple[str, ...] = ()


def made_of(stage: PipelineStage, digests: Mapping[str, str]) -> dict[str, Any]:
    """A stage's settings and inputs, in the form in which JSON returns them."""
    inputs = {name: digests.get(name) for name in stage.needs}
    text = json.dumps({"settings": stage.settings, "inputs": inputs}, default=str)
    read: dict[str, Any] = json.loads(text)
    return read


def read_record(folder: Path) -> StageRecord | None:
    """The record in a folder; None where there is none, or none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text())
        is_known = {"settings", "inputs"} == record["made_of"].keys() and {
            *map(type, record["made_of"].values())
        } == {dict}
        return record if is_known else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def is_complete(record: StageRecord) -> bool:
    """Whether a record tells the files and the scores of a result, besides what it was made of."""
    parts = {"digest": str, "files": dict, "scores": dict}
    return all(isinstance(record.get(name), kind) for name, kind in parts.items())


def first_change(old: StageRecord, new: StageRecord) -> str | None:
    """The first difference between what a result was made of and what it would be made of now."""
    for name, digest in new["inputs"].items():
        if old["inputs"].get(name) != digest:
            return f"{name} came out differently"
    for name in old["inputs"]:
        if name not in new["inputs"]:
            return f"{name} is no longer used"
    before, after = dict(_leaves(old["settings"])), dict(_leaves(new["settings"]))
    for path in {**before, **after}:
        if before.get(path) != after.get(path):
            return f"{path} was {before.get(path)}, is {after.get(path)}"
    return None


def _leaves(settings: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The values of nested settings with their dotted names."""
    if isinstance(settings, dict) and settings:
        for name, value in settings.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, settings


def files_of(folder: Path) -> Iterator[str]:
    """The files of a result as relative paths, without its record, training logs and hidden files."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in (RECORD, CURVES) and not parts[-1].startswith("."):
            yield "/".join(parts)


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_of(content: object) -> str:
    """The hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
