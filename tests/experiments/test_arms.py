"""The arms of the demo: their settings, their names, and the table of their differences."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fbr_plugin import FBRConfig, GateConfig, recommended
from fbr_plugin.experiments import arms as arms_module
from fbr_plugin.experiments import paired
from fbr_plugin.experiments.arms import arm_name, arms
from fbr_plugin.experiments.report import COLUMNS, paired_table

METHODS = ["CAM", *arms("amn")]


@pytest.mark.parametrize(
    ("losses", "gate", "name"),
    [
        (False, False, "AMN"),
        (True, False, "AMN + FBR"),
        (False, True, "AMN + gate"),
        (True, True, "AMN + FBR and gate"),
    ],
)
def test_names_say_what_is_enabled(losses: bool, gate: bool, name: str) -> None:
    assert arm_name("AMN", FBRConfig(enabled=losses), GateConfig(enabled=gate)) == name


@pytest.mark.parametrize(
    ("baseline", "published"), [("amn", FBRConfig.amn()), ("ppc", FBRConfig.ppc()), ("bas", FBRConfig())]
)
def test_three_arms(baseline: str, published: FBRConfig) -> None:
    name = baseline.upper()
    settings = {arm: own for arm, (_, own) in arms(baseline).items()}
    assert [*settings][:2] == [name, f"{name} + FBR"]
    assert [*settings.values()] == [{}, {"fbr": published, "gate": GateConfig(enabled=False)}, recommended()]


def test_the_last_name_follows_the_recommendation(monkeypatch: pytest.MonkeyPatch) -> None:
    for losses, name in ((False, "AMN + gate"), (True, "AMN + FBR and gate")):
        own = {"fbr": FBRConfig(enabled=losses), "gate": GateConfig(enabled=True)}
        monkeypatch.setattr(arms_module, "recommended", lambda own=own: own)
        assert [*arms("amn")] == ["AMN", "AMN + FBR", name]


def test_settings_of_an_arm_that_changed_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    monkeypatch.setattr(paired, "run_seed", lambda seed, *_: computed.append(seed) or {"seed": seed})
    for _ in range(2):
        paired.cached_seed(3, {"baseline": "amn", "data": None}, tmp_path, draw=False)
    assert computed == [3]
    last = [*arms("amn")][-1]
    network, own = arms("amn")[last]
    changed = {**arms("amn"), last: (network, {**own, "gate": replace(own["gate"], num_clusters=2)})}
    monkeypatch.setattr(paired, "arms", lambda _: changed)
    paired.cached_seed(3, {"baseline": "amn", "data": None}, tmp_path, draw=False)
    assert computed == [3, 3]


def result(*recalls: float) -> dict[str, Any]:
    """The result of a seed, with these recalls of the methods."""
    scores = {
        name: {**dict.fromkeys(COLUMNS), "recall": recall}
        for name, recall in zip(METHODS, recalls, strict=True)
    }
    return {"seed": 1, "scores": scores}


def test_both_arms_are_paired_with_the_baseline() -> None:
    table = paired_table([result(10, 40, 42, 50), result(20, 41, 41, 57)])
    recalls = {row[0]: row[3:4] for row in (re.split(" {2,}", line) for line in table.splitlines())}
    assert recalls["AMN"] == ["40.50 ± 0.71"]
    assert recalls["AMN + FBR vs AMN"] == ["1.00 ± 1.41"]
    assert recalls[f"{METHODS[-1]} vs AMN"] == ["13.00 ± 4.24"]
    assert " vs " not in paired_table([result(10, 40, 42, 50)]).partition("\n\n")[0]
