"""The presets of FBR by name, and what the arguments `fbr` and `gate` of a module stand for."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal, Protocol

from fbr_plugin.config import FBRConfig, GateConfig, merged, preset
from fbr_plugin.errors import InputError, check_choice

Preset = Literal["recommended", "amn", "ppc"]
PUBLISHED = {"amn": FBRConfig.amn(), "ppc": FBRConfig.ppc()}


class WithPresets(Protocol):
    """A class whose constructor takes `fbr` and `gate`.

    Attributes:
        published: key of its own preset in `PUBLISHED`.
    """

    published: ClassVar[str]


def named(name: str, published: str) -> FBRConfig:
    """The settings of the losses in a preset.

    Args:
        name: "recommended", which has no losses, or a key of `PUBLISHED`.
        published: key of the baseline's own preset, whose values the losses have if they are enabled beside
            "recommended".

    Raises:
        ValueError: an unknown name.
    """
    check_choice("the preset fbr", name, Preset)
    return replace(PUBLISHED[published], enabled=False) if name == "recommended" else PUBLISHED[name]


def resolve(owner: type[WithPresets], fbr: Any, gate: Any) -> tuple[FBRConfig, GateConfig]:
    """The settings of the losses and of the gate that the arguments of a module stand for.

    Args:
        owner: class of the module, whose own defaults a mapping of single fields starts from.
        fbr: argument `fbr` of `FBRMixin`.
        gate: argument `gate` of `FBRMixin`.

    Raises:
        TypeError: an argument of another type.
        ValueError: an unknown preset or field, or a field of losses or of a gate that are off.
    """
    start, given = preset(owner, "fbr"), {"preset": fbr} if isinstance(fbr, str) else fbr
    if isinstance(given, Mapping):
        start = given.get("preset", start)
        given = {name: value for name, value in given.items() if name != "preset"}
    losses = merged(start if isinstance(start, FBRConfig) else named(start, owner.published), given)
    _check_on(
        losses.enabled,
        given,
        "the fbr setting {} needs the losses, which the preset recommended leaves out: name another one "
        "beside it, fbr.preset amn or ppc (in Python, fbr={{'preset': 'amn', ...}})",
    )
    usual = preset(owner, "gate") or GateConfig(enabled=not losses.enabled)
    chosen = merged(usual, {} if gate is None else gate)
    _check_on(
        chosen.enabled,
        gate,
        "the gate setting {} needs the gate, which is off beside the losses: add gate.enabled true (in "
        "Python, gate={{'enabled': True, ...}})",
    )
    return losses, chosen


def all_fields(owner: type[WithPresets], arguments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments `fbr` and `gate` with all of their fields, from those among the arguments of a module."""
    given = {name: arguments.get(name, preset(owner, name)) for name in ("fbr", "gate")}
    losses, gate = resolve(owner, **given)
    found = {"fbr": asdict(losses), "gate": asdict(gate)}
    return {name: found[name] for name in found.keys() & arguments.keys()}


def _check_on(enabled: bool, given: Any, message: str) -> None:
    """Raise if single fields are given of what is off, and whether it is on is not among them."""
    if not enabled and isinstance(given, Mapping) and given and "enabled" not in given:
        raise InputError(message.format(next(iter(given))))
