"""Folders of results that know what they were made of: kept while nothing changed, and whole or not there.

A stage fills `NAME.partial`, which becomes `NAME` by one rename when it is done, with a record of its
settings, of the results that it started from, and of the hash of each of its files.
"""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fbr_plugin.distributed import barrier, is_rank_zero
from fbr_plugin.errors import DiskFullError, UsageError
from fbr_plugin.files import write_text

RECORD = "stage.json"
CURVES = "curves"  # a folder of what a training logs, which no later stage reads
Record = dict[str, Any]
Scores = dict[str, float]


@dataclass(frozen=True)
class PipelineStage:
    """A function that fills a folder.

    Args:
        name: of the stage and of its folder.
        settings: what decides its result, beside the results that it starts from; JSON.
        make: fills a folder, given the folders of the stages in `needs` by name, and returns its scores. What
            it finds in the folder was left by a call of the same settings that was cut.
        needs: names of the stages whose results it starts from.
    """

    name: str
    settings: dict[str, Any]
    make: Callable[[Path, dict[str, Path]], Scores]
    needs: tuple[str, ...] = ()


class Status(NamedTuple):
    """Whether a stage's result is there, or why it is made.

    Attributes:
        record: what is known of the result; None where the stage has to run.
        reason: why it runs; "cached" where it does not.
    """

    record: Record | None
    reason: str


def status(stage: PipelineStage, output: Path, digests: Mapping[str, str]) -> Status:
    """Compare a stage's result with what would be made now.

    Args:
        stage: the stage.
        output: folder of all stages.
        digests: of the results of the stages that it needs; one left out is about to be made.
    """
    folder = output / stage.name
    if not folder.is_dir():
        begun = _read_record(_partial(folder))
        cut = begun is not None and begun["made_of"] == _made_of(stage, digests)
        return Status(None, "goes on where it was cut" if cut else "not made yet")
    record = _read_record(folder)
    if record is None:
        return Status(None, f"{folder / RECORD} is missing or no longer readable")
    if missing := [name for name in stage.needs if name not in digests]:
        return Status(None, f"{' and '.join(missing)} will be made (it is kept if that comes out the same)")
    if change := _first_change(record["made_of"], _made_of(stage, digests)):
        return Status(None, change)
    for path in sorted({*record["files"], *_files(folder)}):
        known, found = record["files"].get(path), folder / path
        if known is None or not found.is_file() or _sha256(found) != known:
            what = "was added" if known is None else "was edited" if found.is_file() else "was removed"
            return Status(None, f"{found} {what} after the stage had written its folder")
    return Status(record, "cached")


def plan(
    stages: Sequence[PipelineStage], output: Path, first: str | None = None
) -> Iterator[tuple[PipelineStage, Status]]:
    """What `run` would do, without doing it.

    Args:
        stages: in order.
        output: folder of all stages.
        first: this stage and those after it are made again.
    """
    digests: dict[str, str] = {}
    forced = False
    for stage in stages:
        forced = forced or stage.name == first
        found = (
            Status(None, f"from {first} on all is made again") if forced else status(stage, output, digests)
        )
        if found.record:
            digests[stage.name] = found.record["digest"]
        yield stage, found


def run(
    stages: Sequence[PipelineStage],
    output: Path,
    first: str | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[tuple[PipelineStage, Record]]:
    """Make what is not there yet, and yield the record of each stage as it is done.

    Args:
        stages: in order.
        output: folder of all stages.
        first: this stage and those after it are made again.
        say: told what happens to each stage.

    Raises:
        OSError: the disk is full, among others. What is finished stays, and the next call goes on.
        RuntimeError: another run is at work in the folder.
    """
    with _alone(output):
        yield from _run(stages, output, first, say)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the lock ends with the process, however that ends."""
    if not is_rank_zero():
        yield
        return
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows
            pass
        except BlockingIOError:
            raise UsageError(
                f"another run is at work in {output}: wait for its end, or give another output"
            ) from None
        yield


def _run(
    stages: Sequence[PipelineStage], output: Path, first: str | None, say: Callable[[str], None]
) -> Iterator[tuple[PipelineStage, Record]]:
    """`run`, once the folder is this process's own."""
    if first is not None and is_rank_zero():  # the other processes find it done
        for stage in stages[[stage.name for stage in stages].index(first) :]:
            for folder in (output / stage.name, _partial(output / stage.name)):
                shutil.rmtree(folder, ignore_errors=True)
    records: dict[str, Record] = {}
    for number, stage in enumerate(stages, start=1):
        found = status(stage, output, {name: record["digest"] for name, record in records.items()})
        say(f"[{number}/{len(stages)}] {stage.name}: {found.reason}")
        records[stage.name] = found.record or _make(stage, output, records)
        yield stage, records[stage.name]


def _make(stage: PipelineStage, output: Path, records: Mapping[str, Record]) -> Record:
    """Fill a stage's folder, and give it its name when it is whole."""
    folder, partial = output / stage.name, _partial(output / stage.name)
    made_of = _made_of(stage, {name: record["digest"] for name, record in records.items()})
    begun = _read_record(partial)
    if begun is None or begun["made_of"] != made_of:
        begun = None
        if is_rank_zero():
            shutil.rmtree(partial, ignore_errors=True)
            write_text(partial / RECORD, json.dumps({"made_of": made_of}))
    if begun is None or "files" not in begun:
        start = time.perf_counter()
        scores = _fill(stage, partial, {name: output / name for name in stage.needs})
        barrier()
        if is_rank_zero():
            files = {path: _sha256(partial / path) for path in sorted(_files(partial))}
            known = {"scores": scores, "seconds": time.perf_counter() - start, "resumed": begun is not None}
            record = {"made_of": made_of, "digest": _hash(files), **known, "files": files}
            write_text(partial / RECORD, json.dumps(record, indent=1))
    if is_rank_zero():
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    barrier()
    return json.loads((folder / RECORD).read_text())


def _fill(stage: PipelineStage, folder: Path, inputs: dict[str, Path]) -> Scores:
    try:
        return stage.make(folder, inputs)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFullError(
            errno.ENOSPC,
            f"the disk is full in stage {stage.name}: make room and start the same command again",
        ) from error


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")


def _made_of(stage: PipelineStage, digests: Mapping[str, str]) -> dict[str, Any]:
    """Settings and inputs as they look when read back from JSON."""
    inputs = {name: digests.get(name) for name in stage.needs}
    return json.loads(json.dumps({"settings": stage.settings, "inputs": inputs}, default=str))


def _read_record(folder: Path) -> Record | None:
    try:
        record = json.loads((folder / RECORD).read_text())
        return record if {"settings", "inputs"} == record["made_of"].keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _first_change(old: Record, new: Record) -> str | None:
    """What differs first between what a result was made of and what it would be made of."""
    for name, digest in new["inputs"].items():
        if old["inputs"].get(name) != digest:
            return f"{name} came out differently"
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


def _files(folder: Path) -> Iterator[str]:
    """The files of a result as relative paths: not its record, curves of a training, and hidden files."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in (RECORD, CURVES) and not parts[-1].startswith("."):
            yield "/".join(parts)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
