"""The comparison of instances without and with FBR: its commands, and the arithmetic of its table."""

import argparse
from pathlib import Path

import pytest
from helpers.tiny import command

from benchmarks.instances import ARMS, COLUMNS, ROWS, Result, chosen, rows, table, words

SCENES = argparse.Namespace(data=None, weights=None)


def result(arm: str, seed: int, score: float) -> Result:
    """The scores of a run, the same in every column, one point higher in the last stage."""
    stages = {stage: dict.fromkeys(COLUMNS, score + place) for place, stage in enumerate(ROWS)}
    return {"arm": arm, "seed": seed, **stages}


def test_table_of_paired_differences() -> None:
    scores = {"baseline": (20.0, 30.0), "losses": (19.0, 29.0), "recommended": (22.0, 34.0)}
    found = [result(arm, seed, score) for arm, both in scores.items() for seed, score in enumerate(both)]
    lines = table(found).splitlines()
    assert lines[0].startswith("| stage | arm | AP25 | AP50 |")
    assert lines[2].startswith("| instances, background .25 | baseline | 25.0 ± 7.1 |")
    assert lines[3].startswith("| instances, background .25 | losses | -1.0 ± 0.0 |")
    assert lines[4].startswith(
        "| instances, background .25 | recommended | +3.0 ± 12.7 |"
    )  # 1 times 12.706 of Student's t
    assert lines[11].startswith("| Mask R-CNN | baseline | 28.0 ± 7.1 |")
    (line,) = [row for row in rows(found).splitlines() if row.startswith("instances,recommended,1")]
    assert line == "instances,recommended,1" + len(COLUMNS) * ",34.00"


def test_table_of_one_seed_has_no_spread() -> None:
    lines = table([result(arm, 0, 20.0) for arm in ARMS]).splitlines()
    assert lines[2].startswith("| instances, background .25 | baseline | 20.0 | 20.0 |")
    assert lines[4].startswith("| instances, background .25 | recommended | +0.0 | +0.0 |")


def test_backgrounds_are_chosen_by_seed() -> None:
    def at(*scores: float) -> dict[float, dict[str, float]]:
        return {place / 10: {"ap_mean": score} for place, score in enumerate(scores)}

    scores = {("baseline", 0): at(3, 1), ("recommended", 0): at(5, 9), ("baseline", 1): at(1, 2)}
    scores["recommended", 1] = at(7, 6)
    found = chosen([{"arm": arm, "seed": seed, "backgrounds": own} for (arm, seed), own in scores.items()])
    assert [each["fixed"]["ap_mean"] for each in found] == [3, 5, 2, 6]
    assert [each["oracle"]["ap_mean"] for each in found] == [3, 9, 2, 7]


@pytest.mark.parametrize("arm", ARMS)
def test_commands_are_accepted(arm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*words(SCENES, 3), *ARMS[arm], f"--output={tmp_path}"]
    command("pipeline", *given, "--dry-run")
    assert "instance_predictions" in capsys.readouterr().out
    assert not [*tmp_path.iterdir()]
