"""Two arms that take turns, the memory that each adds, and exponents of growth."""

import ctypes
import gc
import math
import os
import random
import resource
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.speed.released import NotMeasuredError


class DisagreementError(Exception):
    """The arms' results differ by more than they may."""


@dataclass
class Case:
    """What a line measures, ready to run.

    Attributes:
        ours: our code; its result is compared.
        released: the authors', on the same inputs.
        compare: of both results, how they agree; raises `DisagreementError` where they do not.
        size: what the arms compute, in words.
        units: images, or other things, of a call; times are given for one of them.
    """

    ours: Callable[[], Any]
    released: Callable[[], Any] | None
    compare: Callable[[Any, Any], str]
    size: str
    units: int = 1


def one_core() -> None:
    """Keep this process to one core and one thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    warnings.simplefilter("ignore")


def seed_all() -> None:
    """Seed the global random streams of torch, NumPy and Python."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # the stream that the released code draws from
    random.seed(0)


def measured(case: Case, seconds: float, least: int = 3) -> dict[str, Any]:
    """Medians of both arms, the spread of their ratio, and the memory that each adds.

    The first round warms up and gives the results to compare. The order of the arms alternates.

    Args:
        case: the arms.
        seconds: for the timed rounds, of which there are at least `least`.
        least: rounds.
    """
    arms = {"released": case.released, "ours": case.ours}
    present = {name: arm for name, arm in arms.items() if arm is not None}
    results = {}
    for name, arm in present.items():
        seed_all()
        results[name] = arm()
    agreement = case.compare(results["ours"], results["released"]) if len(present) == 2 else ""
    results.clear()
    taken: dict[str, list[float]] = {name: [] for name in present}
    start = perf_counter()
    while len(taken["ours"]) < least or perf_counter() - start < seconds:
        for name, arm in list(present.items())[:: 1 if len(taken["ours"]) % 2 else -1]:
            taken[name].append(processor_seconds(arm) / case.units)
    ours = taken["ours"]
    found: dict[str, Any] = {"size": case.size, "agreement": agreement, "rounds": len(ours)}
    found["seconds"] = {name: median(times) for name, times in taken.items()}
    if "released" in taken:
        ratios = [theirs / own for theirs, own in zip(taken["released"], ours, strict=True)]
        found["ratio"] = found["seconds"]["released"] / found["seconds"]["ours"]
        found["ratio of a round"] = [min(ratios), max(ratios)]
    found["memory"] = {name: added_memory(arm) for name, arm in present.items()}
    return found


def added_memory(run: Callable[[], Any]) -> float | None:
    """Megabytes by which a call raises the resident memory of this process at most; None but on Linux.

    Memory that was freed before the call is given back to the system first, so that it counts when it is
    taken again. What a process started by the call uses is not in it.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present size
        before = _status("VmRSS")
    except (OSError, AttributeError):
        return None
    run()
    return max(_status("VmHWM") - before, 0.0)


def _status(entry: str) -> float:
    """An entry of this process's status, in MB of 1e6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(entry)).split()[1]) * 1024 / 1e6


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The power of the size by which values grow: least squares on logarithms."""
    x, y = ([math.log(each) for each in column] for column in (sizes, values))
    middle, height = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - middle) ** 2 for each in x)
    return sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / spread


def same_loss(tolerance: float) -> Callable[[float, float], str]:
    """Compares the losses of the first step, from the same weights."""

    def compare(ours: float, released: float) -> str:
        difference = abs(ours - released) / abs(released)
        if not difference <= tolerance:
            raise DisagreementError(f"the losses of the first step are {ours:.6g} and {released:.6g}")
        return f"loss of the first step within {difference:.0e}"

    return compare


def differing_pixels(limit: float) -> Callable[[Any, Any], str]:
    """Compares masks: the share of pixels that differ may be `limit`."""

    def compare(ours: Any, released: Any) -> str:
        one, other = np.asarray(ours), np.asarray(released)
        if one.shape != other.shape:
            raise DisagreementError(f"the masks have the shapes {one.shape} and {other.shape}")
        number = int((one != other).sum())
        if number > limit * one.size:
            raise DisagreementError(f"{number} of {one.size} pixels differ")
        return f"{number} of {one.size} pixels differ"

    return compare


def growth(
    step: Callable[..., Callable[[], Any]], base: Mapping[str, int], ranges: Mapping[str, Iterable[int]]
) -> dict[str, Any]:
    """Time and memory of a step when one size grows and the others stay, and their exponents.

    Args:
        step: makes what is timed from all sizes by name.
        base: the usual sizes.
        ranges: the values of each size.
    """
    table: dict[str, Any] = {}
    for name, values in ranges.items():
        sizes = list(values)
        runs = [step(**{**base, name: value}) for value in sizes]
        for run in runs:
            run()
        rounds = [[processor_seconds(run) for run in runs] for _ in range(3)]  # the sizes take turns
        seconds = [median(column) for column in zip(*rounds, strict=True)]
        memory = [added_memory(run) for run in runs]
        table[name] = {"sizes": sizes, "seconds": seconds, "memory": memory}
        table[name]["exponent of time"] = exponent(sizes, seconds)
        if all(memory):
            table[name]["exponent of memory"] = exponent(sizes, [each or 0.0 for each in memory])
    return table


def processor_seconds(run: Callable[[], Any]) -> float:
    """Seconds for which a call, with the processes that it starts and ends, keeps a core busy."""
    before = _used()
    run()
    return _used() - before


def _used() -> float:
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in usage)


def need(package: str) -> None:
    """Raise `NotMeasuredError` unless a package can be imported."""
    try:
        __import__(package)
    except ImportError:
        raise NotMeasuredError(f"needs the package {package}") from None
