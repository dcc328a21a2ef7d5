"""Cached results of stages: kept while settings and inputs are unchanged, and complete or absent.

A stage fills `NAME.partial`, which is renamed to `NAME` when it is complete. A record holds its settings, the
results that it started from, and the hash of each of its files.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fbr_plugin.distributed import barrier, is_rank_zero
from fbr_plugin.errors import UsageError
from fbr_plugin.files import make_folder, write_text
from fbr_plugin.pipeline.record import (
    RECORD,
    PipelineStage,
    StageRecord,
    files_of,
    first_change,
    hash_of,
    is_complete,
    made_of,
    read_record,
    sha256_of,
)


class Status(NamedTuple):
    """The state of a stage's result.

    Attributes:
        record: the record of the result; None if the stage has to run.
        reason: why the stage has to run; "cached" if it does not.
    """

    record: StageRecord | None
    reason: str


def status(stage: PipelineStage, output: Path, digests: Mapping[str, str]) -> Status:
    """Compare a stage's result with what a run would make now.

    Args:
        stage: the stage.
        output: folder of all stages.
        digests: of the results of the stages that it needs; missing ones are about to be made.
    """
    folder = output / stage.name
    if not folder.is_dir():
        begun = read_record(_partial(folder))
        cut = begun is not None and begun["made_of"] == made_of(stage, digests)
        return Status(None, "continues an interrupted run" if cut else "not made yet")
    record = read_record(folder)
    if record is None or not is_complete(record):
        return Status(None, f"{folder / RECORD} is missing or no longer readable")
    if missing := [name for name in stage.needs if name not in digests]:
        return Status(
            None, f"{' and '.join(missing)} will be made (this stage is kept if the result is the same)"
        )
    if change := first_change(record["made_of"], made_of(stage, digests)):
        return Status(None, change)
    for path in sorted({*record["files"], *files_of(folder)}):
        known, found = record["files"].get(path), folder / path
        if known is None or not found.is_file() or sha256_of(found) != known:
            what = "was added" if known is None else "was edited" if found.is_file() else "was removed"
            return Status(None, f"{found} {what} after the stage was complete")
    return Status(record, "cached")


def plan(
    stages: Sequence[PipelineStage], output: Path, first: str | None = None
) -> Iterator[tuple[PipelineStage, Status]]:
    """The status of each stage, without running any.

    Args:
        stages: in order.
        output: folder of all stages.
        first: this stage and those after it are run again.
    """
    digests: dict[str, str] = {}
    forced = False
    for stage in stages:
        forced = forced or stage.name == first
        found = (
            Status(None, f"everything from {first} on runs again")
            if forced
            else status(stage, output, digests)
        )
        if found.record:
            digests[stage.name] = found.record["digest"]
        yield stage, found


def run(
    stages: Sequence[PipelineStage],
    output: Path,
    first: str | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[tuple[PipelineStage, StageRecord]]:
    """Run the stages without a valid result, and yield the record of each stage when it is complete.

    Args:
        stages: in order.
        output: folder of all stages.
        first: this stage and those after it are run again.
        say: called with a message about each stage.

    Raises:
        OSError: for example, the disk is full. Finished work is kept, and the next call continues.
        RuntimeError: another run uses the folder.
    """
    with alone(output):
        yield from _run(stages, output, first, say)


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Keep other runs out of a folder by a lock, which ends with the process, even if that is killed."""
    if not is_rank_zero():
        yield
        return
    make_folder(output)
    with (output / ".lock").open("w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows
            pass
        except BlockingIOError:
            raise UsageError(f"another run uses {output}: wait for its end, or give another output") from None
        yield


def _run(
    stages: Sequence[PipelineStage], output: Path, first: str | None, say: Callable[[str], None]
) -> Iterator[tuple[PipelineStage, StageRecord]]:
    """Run the stages in a folder that this process has locked."""
    if first is not None and is_rank_zero():  # the other processes find it complete
        for stage in stages[[stage.name for stage in stages].index(first) :]:
            for folder in (output / stage.name, _partial(output / stage.name)):
                shutil.rmtree(folder, ignore_errors=True)
    records: dict[str, StageRecord] = {}
    for number, stage in enumerate(stages, start=1):
        found = status(stage, output, {name: record["digest"] for name, record in records.items()})
        say(f"[{number}/{len(stages)}] {stage.name}: {found.reason}")
        records[stage.name] = found.record or _make(stage, output, records)
        yield stage, records[stage.name]


def _make(stage: PipelineStage, output: Path, records: Mapping[str, StageRecord]) -> StageRecord:
    """Fill a stage's folder, and rename it when it is complete."""
    folder, partial = output / stage.name, _partial(output / stage.name)
    origin = made_of(stage, {name: record["digest"] for name, record in records.items()})
    begun = read_record(partial)
    if begun is None or begun["made_of"] != origin:
        begun = None
        if is_rank_zero():
            shutil.rmtree(partial, ignore_errors=True)
            write_text(partial / RECORD, json.dumps({"made_of": origin}))
    if begun is None or "files" not in begun:
        start = time.perf_counter()
        scores = stage.make(partial, {name: output / name for name in stage.needs})
        barrier()
        if is_rank_zero():
            files = {path: sha256_of(partial / path) for path in sorted(files_of(partial))}
            known = {"scores": scores, "seconds": time.perf_counter() - start, "resumed": begun is not None}
            record = {"made_of": origin, "digest": hash_of(files), **known, "files": files}
            write_text(partial / RECORD, json.dumps(record, indent=1))
    if is_rank_zero():
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    barrier()
    made: StageRecord = json.loads((folder / RECORD).read_text())
    return made


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")
