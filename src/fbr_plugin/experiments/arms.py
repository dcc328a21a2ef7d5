"""The arms of the demo: a baseline, the same with FBR's losses, and with the recommended settings."""

from typing import Any

from fbr_plugin.baselines import AMN, AMNFBR, BAS, BASFBR, PPC, PPCFBR
from fbr_plugin.config import FBRConfig, GateConfig, Recommended, recommended
from fbr_plugin.presets import PUBLISHED

# The baseline, the same with FBR, and settings for small images and an encoder that the CAM has trained.
BASELINES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "amn": (AMN, AMNFBR, {"rates": (1, 2, 4)}),
    "ppc": (PPC, PPCFBR, {"dropout": 0.0}),
    "bas": (BAS, BASFBR, {}),
}

Arms = dict[str, tuple[Any, dict[str, Any]]]
"""The class and the settings of FBR of each arm, by its name."""


def arms(baseline: str) -> Arms:
    """The baseline, the same with the losses as published for it, and with the recommended settings.

    Args:
        baseline: key of `BASELINES`.
    """
    name = baseline.upper()
    plain, with_fbr, _ = BASELINES[baseline]
    published: Recommended = {"fbr": PUBLISHED[with_fbr.published], "gate": GateConfig(enabled=False)}
    compared: Arms = {arm_name(name, **own): (with_fbr, {**own}) for own in (published, recommended())}
    return {name: (plain, {}), **compared}


def arm_name(baseline: str, fbr: FBRConfig, gate: GateConfig) -> str:
    """The name of a baseline with what is enabled of FBR: its losses, "FBR", and the gate."""
    parts = [part for part, own in (("FBR", fbr), ("gate", gate)) if own.enabled]
    return " + ".join([baseline, " and ".join(parts)] if parts else [baseline])
