"""Conversion of released checkpoints: reading, renaming, and the comparison with our network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbr_plugin import baselines
from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.resnet38 import rename_released
from fbr_plugin.baselines.encoders.weights import WRAPPERS, read_tensors
from fbr_plugin.baselines.released.kinds import KINDS, OWN, Kind
from fbr_plugin.errors import InputError, MissingFileError

MOST_CLASSES = 2**15  # more than ImageNet's 21 841


@dataclass(frozen=True)
class Imported:
    """A released checkpoint as the state dict of a network of ours.

    Attributes:
        network: class path of the baseline; None for an encoder alone.
        settings: of the baseline or encoder.
        state: its whole state dict: the tensors of the file, and initial values of those that it lacks.
        matched: names of ours that come from the file.
        left_out: released names that are not needed.
        unexpected: released names that the kind does not know.
        missing: names of ours that the file should have.
        initial: names of ours that no such file has.
        misfits: tensors of another shape, each with both shapes.
    """

    network: str | None
    settings: dict[str, Any]
    state: dict[str, Tensor]
    matched: list[str]
    left_out: list[str]
    unexpected: list[str]
    missing: list[str]
    initial: list[str]
    misfits: list[str]


def read_released(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, without the wrappers of DataParallel.

    Args:
        path: a file of torch (.pth, .pth.tar, .pt) or safetensors. A pickle is read without running its code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint, or holds objects that could run code.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: give the file that you downloaded")
    state = read_tensors(path, "download it again")
    if not state:
        raise InputError(
            f"{path} has no tensors by name: give a state dict, or a checkpoint with one as "
            f"{' or '.join(map(repr, WRAPPERS))}"
        )
    return {name.removeprefix("module."): value for name, value in state.items()}


def convert(name: str, released: Mapping[str, Tensor]) -> Imported:
    """A released state dict as a network of ours, of as many classes as it has.

    Args:
        name: of the kind.
        released: tensors by their released names.
    """
    kind = KINDS[name]
    state = rename_released(released) if kind.resnet38 else released
    ours = {key: _ours(key, kind) for key in state}
    found = {new: state[key] for key, new in ours.items() if new}
    settings = dict(kind.settings)
    if kind.classes is not None:
        tensor, more = kind.classes
        classes = 1
        if tensor in found and found[tensor].ndim:
            if kind.rows is not None:
                found[tensor] = kind.rows(found[tensor])
            classes = min(max(len(found[tensor]) - more, 1), MOST_CLASSES)  # of more, the shapes disagree
        settings = {"num_classes": classes, **settings}
    network = _build(kind, settings)
    own = network.state_dict(keep_vars=True)
    matched = [key for key in own if key in found]
    known = {id(own[key]) for key in matched}  # of a tensor with two names, the file has one
    lacking = [key for key in own if id(own[key]) not in known]
    initial = [key for key in lacking if re.fullmatch(f"{OWN}|{kind.lacking}", key)]
    misfits = [
        f"{key}: {list(found[key].shape)} in the file, {list(own[key].shape)} here"
        for key in matched
        if found[key].shape != own[key].shape
    ]
    if not misfits:
        network.load_state_dict({key: found[key] for key in matched}, strict=False)
    return Imported(
        f"{baselines.__name__}.{kind.network}" if kind.network else None,
        settings,
        # A tensor with two names is stored twice, as safetensors refuse shared memory.
        {key: value.detach().clone() for key, value in network.state_dict().items()},
        matched,
        [key for key, new in ours.items() if new is None],
        [key for key, new in ours.items() if new == "" or (new and new not in own)],
        [key for key in lacking if key not in initial],
        initial,
        misfits,
    )


def fitting_kinds(released: Mapping[str, Tensor]) -> list[str]:
    """The kinds of which a state dict has all tensors, and no others."""
    with torch.device("meta"):  # for the shapes alone
        state = {name: value.to("meta") for name, value in released.items()}
        known = [name for name, kind in KINDS.items() if _names_fit(kind, state)]
        converted = {name: convert(name, state) for name in known}
    return [name for name, each in converted.items() if not (each.missing or each.misfits or each.unexpected)]


def _names_fit(kind: Kind, state: Mapping[str, Tensor]) -> bool:
    """Whether a kind knows all released names, and each of its patterns with a name of ours occurs."""
    renamed = rename_released(state) if kind.resnet38 else state
    if any(_ours(key, kind) == "" for key in renamed):
        return False
    patterns = (pattern for pattern, new in kind.keys.items() if new)
    return all(any(re.fullmatch(pattern, key) for key in renamed) for pattern in patterns)


def _ours(key: str, kind: Kind) -> str | None:
    """Our name of a released one; None if it is not needed, "" if it is unknown."""
    for pattern, new in kind.keys.items():
        if match := re.fullmatch(pattern, key):
            return match.expand(new) if new else None
    return ""


def _build(kind: Kind, settings: Mapping[str, Any]) -> nn.Module:
    """The network, with the same initial values each time; the global random stream stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any
        if kind.network is None:
            network = build_encoder(settings["encoder"])
        else:
            network = getattr(baselines, kind.network)(**{"num_classes": 1, **settings})
    built: nn.Module = network
    return built
