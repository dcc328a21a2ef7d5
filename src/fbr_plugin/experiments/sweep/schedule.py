"""The runs of a sweep on several devices, a process each; every result is kept as its run ends."""

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from fbr_plugin.errors import UsageError
from fbr_plugin.experiments.results import cached
from fbr_plugin.experiments.sweep.plan import RESULT, Run
from fbr_plugin.processes import process_context, start_pool

Result = dict[str, Any]
Train = Callable[[Run, str], dict[str, float]]
"""Trains and scores a run on a device; a function of a module, or a `partial` of one."""

LOG = "log.txt"
_device = "cpu"  # of this process


def train_all(runs: Sequence[Run], train: Train, devices: Sequence[str]) -> Iterator[tuple[Run, Result]]:
    """Train the runs without a result, and yield each with its result as it ends.

    Args:
        runs: in the order in which they should start; a classifier before its arms.
        train: trains and scores a run.
        devices: a device for each process.

    Raises:
        RuntimeError: a run failed. Those under way are finished and kept, no others are started.
    """
    if not runs:
        return
    waiting, unfinished = list(runs), {run.folder for run in runs}
    running: dict[Future[Result], Run] = {}
    names: Queue[str] = process_context().Queue()
    for device in devices:
        names.put(device)
    pool = start_pool(len(devices), _take_device, names)
    try:
        while waiting or running:
            for run in [run for run in waiting if run.after not in unfinished]:
                waiting.remove(run)
                running[pool.submit(partial(_keep, train), run)] = run
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(ended)
                unfinished.remove(run.folder)
                yield run, ended.result()
    except BrokenProcessPool:
        raise UsageError(
            "a process of the sweep was killed, perhaps for want of memory: start the same command again, "
            "with fewer devices"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _take_device(devices: "Queue[str]") -> None:
    """Take one of the devices for the runs of this process."""
    global _device
    _device = devices.get()


def _keep(train: Train, run: Run) -> Result:
    """Train and score a run in an empty folder, and write its result there when all is done."""
    shutil.rmtree(run.folder, ignore_errors=True)  # of an interrupted training
    run.folder.mkdir(parents=True)
    log = run.folder / LOG
    _print_to(log)
    start = time.perf_counter()

    def scored() -> Result:
        scores = train(run, _device)
        return {"scores": scores, "seconds": time.perf_counter() - start}

    try:
        return cached(run.folder / RESULT, run.key, scored)
    except Exception as error:
        traceback.print_exc()
        reason = str(error).strip().rpartition("\n")[2] or type(error).__name__
        raise UsageError(f"{run.title}: {reason} (its log: {log})") from None
    finally:
        sys.stdout.flush()


def _print_to(path: Path) -> None:
    """Send all that this process prints to a file."""
    with path.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
