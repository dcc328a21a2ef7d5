"""The comparison of instances without and with FBR: its commands, and the arithmetic of its table."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.tiny import command

from benchmarks import instances
from benchmarks.instances import ARMS, COLUMNS, ROWS, Result, chosen, known_rows, rows, run_seed, table, words

SCENES = argparse.Namespace(data=None, weights=None)
STAGES = ("classifier", "labels", "baseline", "instances", "instance_network", "instance_predictions")


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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that pipelines make, as RUN/STAGE in order; a stage whose folder exists is kept."""
    result: list[str] = []

    def pipeline(folder: Path, given: Sequence[str]) -> dict[str, dict[str, float]]:
        """Write a folder for each stage; the scores of instances are 100 times their background."""
        backgrounds = [float(word.partition("=")[2]) for word in given if "instances.background" in word]
        count = STAGES.index("instances") + 1 if "--until=instances" in given else len(STAGES)
        for stage in STAGES[:count]:
            if not (folder / stage).exists():
                (folder / stage).mkdir(parents=True)
                result.append(f"{folder.name}/{stage}")
        return {stage: dict.fromkeys(COLUMNS, 100 * sum(backgrounds, 0.0)) for stage in STAGES[:count]}

    monkeypatch.setattr(instances, "pipeline", pipeline)
    return result


def test_arms_and_backgrounds_share_stages(tmp_path: Path, made: list[str]) -> None:
    options = argparse.Namespace(**vars(SCENES), output=tmp_path, masks_only=False)
    found = run_seed(options, 3, ["baseline", "losses"])
    backgrounds = ["background_0.5/instances", "background_0.7/instances"]
    first = [f"baseline_3/{stage}" for stage in STAGES]
    second = [f"losses_3/{stage}" for stage in STAGES if stage not in ("classifier", "labels")]
    assert made == [*first, *backgrounds, *second, *backgrounds]
    assert [(each["seed"], each["arm"]) for each in found] == [(3, "baseline"), (3, "losses")]
    assert {key: each["abo"] for key, each in found[0]["backgrounds"].items()} == {0.25: 0, 0.5: 50, 0.7: 70}
    assert known_rows(chosen(found)) == [*ROWS]
    run_seed(options, 3, ["baseline", "losses"])
    assert len(made) == len([*first, *second]) + 4  # all is kept


def test_masks_only_leave_out_the_network(tmp_path: Path, made: list[str]) -> None:
    found = run_seed(argparse.Namespace(**vars(SCENES), output=tmp_path, masks_only=True), 0, [*ARMS])
    assert not [stage for stage in made if "network" in stage]
    assert "Mask R-CNN" not in table(chosen(found))
    assert known_rows(chosen(found)) == ["instances", "fixed", "oracle"]
