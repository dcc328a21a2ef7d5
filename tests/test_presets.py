"""The presets, and the forms in which the arguments `fbr` and `gate` are given."""

from dataclasses import replace
from typing import Any

import pytest

from fbr_plugin import FBRConfig, FBRMixin, GateConfig, recommended
from fbr_plugin.baselines import PPCFBR
from fbr_plugin.presets import resolve

AMN, PPC, NONE = FBRConfig.amn(), FBRConfig.ppc(), FBRConfig(enabled=False)
GATE, OFF = GateConfig(), GateConfig(enabled=False)


@pytest.mark.parametrize(
    ("fbr", "gate", "found"),
    [
        ("recommended", None, (NONE, GATE)),
        ("amn", None, (AMN, OFF)),
        ("ppc", None, (PPC, OFF)),
        ({"preset": "ppc", "dim": 64}, None, (replace(PPC, dim=64), OFF)),
        ({"enabled": True, "dim": 64}, None, (replace(AMN, dim=64), OFF)),
        (FBRConfig(dim=64), None, (replace(AMN, dim=64), OFF)),
        ("amn", {"enabled": True}, (AMN, GATE)),
        (FBRConfig(dim=64), GATE, (replace(AMN, dim=64), GATE)),
        ("recommended", {"num_clusters": 8}, (NONE, replace(GATE, num_clusters=8))),
        ("recommended", {"enabled": False}, (NONE, OFF)),
        ({"enabled": False, "dim": 64}, {"enabled": False, "decay": 0.5}, None),  # as a checkpoint has them
    ],
)
def test_the_gate_is_on_where_the_losses_are_off(fbr: Any, gate: Any, found: Any) -> None:
    losses, chosen = resolve(FBRMixin, fbr, gate)
    assert (losses, chosen) == (found or (replace(NONE, dim=64), replace(OFF, decay=0.5)))


def test_the_default_is_what_is_recommended() -> None:
    assert resolve(FBRMixin, "recommended", None) == tuple(recommended().values())
    assert resolve(PPCFBR, {"enabled": True}, None) == (PPC, OFF)


@pytest.mark.parametrize(
    ("fbr", "gate", "message"),
    [
        ("anm", None, "preset fbr must be one of 'recommended', 'amn', 'ppc', got 'anm'"),
        ({"preset": 5}, None, "preset fbr must be one of 'recommended', 'amn', 'ppc', got 5"),
        ({"dim": 64}, None, "fbr setting dim needs the losses, .* fbr.preset amn or ppc"),
        ({"preset": "recommended", "dim": 64}, None, "fbr setting dim needs the losses"),
        ("amn", {"decay": 0.5}, "gate setting decay needs the gate, .* add gate.enabled true"),
        ({"preset": "amn", "dims": 64}, None, "no field 'dims'; did you mean dim"),
        (5, None, r"expected FBRConfig\(...\) or a mapping of its fields enabled, .*; got 5"),
        ({"preset": "amn", "dim": "wide"}, None, "dim must be of type int, got 'wide'"),
        ({"enabled": 1}, None, "enabled must be of type bool, got 1"),
    ],
)
def test_other_forms_are_refused(fbr: Any, gate: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        resolve(FBRMixin, fbr, gate)
