"""The settings of a sweep: which trainings it compares, with which seeds, on which devices."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import Path_fr

from fbr_plugin.errors import InputError, check_label_thresholds, check_seeds

Arm = dict[str, Any]
"""Settings of a training by their dotted names."""


@dataclass(frozen=True)
class Classifier:
    """A classifier that is trained before the arms, once for each seed; they start from its encoder.

    Args:
        training: YAML file of its training, as for `fbr-plugin fit`.
        settings: settings that differ from this file, by their dotted names.
        labels: thresholds of foreground and background of the labels that are made from its seeds for the
            arms; None makes none.
    """

    training: Path_fr
    settings: dict[str, Any] = field(default_factory=dict)
    labels: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            check_label_thresholds(*self.labels, ("labels[0]", "labels[1]"))


@dataclass(frozen=True)
class Sweep:
    """The trainings that a sweep compares.

    Args:
        training: YAML file of the training that all arms share, as for `fbr-plugin fit`.
        settings: settings of all arms that differ from this file, by their dotted names.
        arms: for each arm, by its name, its own settings.
        grid: settings, each with a list of values; every combination is an arm besides those in `arms`.
        reference: the arm with which the others are compared; None takes the first one.
        seeds: random seeds; each trains all arms with the same initialisation, data and batches.
        classifier: a classifier to start from, trained once for each seed.
        metrics: figures of the printed table, as `test` logs them; none given prints all.
        output: folder of the runs, the table and the CSV files; None takes runs/sweep and the name of FILE.
        devices: a device for each process: cpu (one thread), mps, cuda:0, ...; None takes all GPUs, or a
            process for each core of the CPU.

    Raises:
        ValueError: there is nothing to compare, or names or seeds are not unique.
    """

    training: Path_fr
    settings: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    reference: str | None = None
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    classifier: Classifier | None = None
    metrics: list[str] = field(default_factory=list)
    output: Path | None = None
    devices: list[str] | None = None

    def __post_init__(self) -> None:
        for name, values in self.grid.items():
            if not values:
                raise InputError(f"grid: {name} has no values: list some, or leave it out")
        if not self.arms and not self.grid:
            raise InputError("there is nothing to compare: give arms, a grid, or both")
        check_seeds("seeds", self.seeds)
        arms = self.all_arms()
        if self.reference is not None and self.reference not in arms:
            raise InputError(f"reference {self.reference!r} is none of the arms {', '.join(map(repr, arms))}")
        folders: dict[str, str] = {}
        for name in arms:
            if (other := folders.setdefault(folder_name(name), name)) != name:
                raise InputError(f"arms {other!r} and {name!r} would share a folder: rename one of them")
        for device in self.devices or []:
            _check_device(device)

    def all_arms(self) -> dict[str, Arm]:
        """The settings of every arm by its name: those in `arms`, then the combinations of the grid."""
        arms = {name: dict(_leaves(own)) for name, own in self.arms.items()}
        short = {name.rpartition(".")[2] for name in self.grid}
        for values in product(*self.grid.values()) if self.grid else ():
            own = dict(zip(self.grid, values, strict=True))
            names = own if len(short) < len(own) else [name.rpartition(".")[2] for name in own]
            title = ", ".join(f"{name}={word(value)}" for name, value in zip(names, values, strict=True))
            if title in arms:
                raise InputError(f"the grid has two arms {title!r}, or arms has one of this name: rename it")
            arms[title] = own
        return arms

    def reference_arm(self) -> str:
        """The name of the arm with which the others are compared."""
        return self.reference or next(iter(self.all_arms()))

    def all_devices(self) -> list[str]:
        """A device for each process."""
        if self.devices:
            return self.devices
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"] * _cores()


def options(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of `fbr-plugin fit`; nested ones are named by their dotted names."""
    return [part for name, value in _leaves(settings) for part in (f"--{name}", word(value))]


def word(value: Any) -> str:
    """A value as a word of a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def folder_name(arm: str) -> str:
    """An arm's name as a name of a folder."""
    return "".join(letter if letter.isalnum() else "_" for letter in arm)


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested settings with their dotted names; a class with its arguments is one value."""
    for name, value in settings.items():
        if isinstance(value, dict) and value and "class_path" not in value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _check_device(device: str) -> None:
    """Raise unless there is such a device."""
    match, count = re.fullmatch(r"cpu|mps|cuda:(\d+)", device), torch.cuda.device_count()
    if match is None:
        raise InputError(f"devices must be cpu, mps or cuda:NUMBER, got {device!r}")
    if match[1] and int(match[1]) >= count:
        raise InputError(f"there is no device {device}: torch finds {count} of CUDA")


def _cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
