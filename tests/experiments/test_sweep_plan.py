"""Sweeps: their arms, runs and tables, and what users get wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import write_photos
from jsonargparse.typing import Path_fr

from fbr_plugin.data import write_mask
from fbr_plugin.errors import InputError
from fbr_plugin.experiments.results import cached
from fbr_plugin.experiments.statistics import interval, paired
from fbr_plugin.experiments.sweep import report
from fbr_plugin.experiments.sweep.plan import Run, plan
from fbr_plugin.experiments.sweep.settings import Classifier, Sweep, options


@pytest.fixture
def training(tmp_path: Path) -> Any:
    """The file of a training."""
    path = tmp_path / "training.yaml"
    path.touch()
    return Path_fr(str(path))


def read(words: list[str]) -> dict[str, Any]:
    """The settings of a training that has a temperature, and nothing else."""
    given = dict(zip(words[::2], words[1::2], strict=True))
    if unknown := [name for name in given if name.startswith("--model.") and name not in KNOWN]:
        raise InputError(f"unrecognized arguments: {unknown[0]}")
    model = {"temperature": given.get("--model.temperature", "0.5")}
    data = {"init_args": {"root": given.get("--data.root"), "loading": {"seed": 0}}}
    return {"model": model, "data": data, "trainer": {"max_steps": 2, "logger": None}, "config": []}


KNOWN = ("--model.temperature", "--model.weights")


def runs(sweep: Sweep, folder: Path) -> dict[str, Run]:
    """The runs of a sweep by title."""
    return {run.title: run for run in plan(sweep, folder, read)}


def after(words: list[str], option: str) -> list[str]:
    """What stands behind every occurrence of an option."""
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def test_arms_are_those_listed_and_every_combination_of_the_grid(training: Any) -> None:
    grid = {"model.fbr.num_clusters": [4, 8], "model.scales": [[1.0], None]}
    sweep = Sweep(training, arms={"plain": {"model": {"fbr": {"enabled": False}}}}, grid=grid)
    arms = sweep.all_arms()
    assert arms["plain"] == {"model.fbr.enabled": False}
    assert arms["num_clusters=8, scales=null"] == {"model.fbr.num_clusters": 8, "model.scales": None}
    assert len(arms) == 5
    assert sweep.reference_arm() == "plain"
    same = Sweep(training, grid={"model.fbr.temperature": [1], "model.gate.temperature": [2]})
    assert [*same.all_arms()] == ["model.fbr.temperature=1, model.gate.temperature=2"]


def test_settings_become_options_of_fit() -> None:
    logger = {"class_path": "WandbLogger", "init_args": {"project": "fbr"}}
    settings = {"model": {"fbr": {"dim": 4}, "scales": [1.0]}, "data.root": "a b", "trainer.logger": logger}
    assert options({**settings, "x": None, "y": True}) == [
        *("--model.fbr.dim", "4", "--model.scales", "[1.0]", "--data.root", "a b"),
        *("--trainer.logger", json.dumps(logger), "--x", "null", "--y", "true"),
    ]


def test_every_arm_has_the_same_seeds_and_starts_from_its_seed_s_classifier(
    training: Any, tmp_path: Path
) -> None:
    first = Classifier(training, {"model.temperature": 3}, (0.35, 0.1))
    arms = {"low": {"model.temperature": 0.1}, "high": {"seed_everything": 9}}
    sweep = Sweep(training, {"data.root": "photos"}, arms, seeds=[4, 7], classifier=first)
    found = runs(sweep, tmp_path)
    assert [*found] == [f"{name}, seed {seed}" for seed in (4, 7) for name in ("classifier", *arms)]
    before, low, high = (found[f"{name}, seed 7"] for name in ("classifier", "low", "high"))
    assert (before.after, before.labels, low.after) == (None, (0.35, 0.1), before.folder)
    assert after(before.words, "--model.temperature") == ["3"]
    assert after(low.words, "--model.weights") == [str(before.folder / "model.ckpt")]
    assert after(low.words, "--data.pseudo_label_dir") == [str(before.folder / "labels")]
    assert after(low.words, "--data.root") == ["photos"]
    assert after(before.words, "--data.root") == []
    for run in (before, low):
        assert after(run.words, "--seed_everything") == after(run.words, "--data.loading.seed") == ["7"]
    assert after(high.words, "--seed_everything") == ["7", "9"]  # the last one counts
    assert len({run.folder for run in found.values()}) == 6
    assert low.key["seed"] == 7
    assert low.key["classifier"]["model"] == {"temperature": "3"}
    other = runs(replace(sweep, seeds=[7], classifier=None), tmp_path)["low, seed 7"]
    assert after(other.words, "--model.weights") == []
    assert other.after is None


def test_results_are_kept_as_long_as_the_settings_are_the_same(training: Any, tmp_path: Path) -> None:
    sweep = Sweep(training, arms={"a": {}, "b": {"model.temperature": 0.1}}, seeds=[0])
    run = runs(sweep, tmp_path)["b, seed 0"]
    assert run.result() is None
    run.folder.mkdir(parents=True)
    (run.folder / "result.json").write_text(json.dumps({"key": run.key, "scores": {"miou": 1.0}}))
    more = replace(sweep, arms={**sweep.arms, "c": {"model.temperature": 2}}, seeds=[1, 0], reference="b")
    assert [title for title, run in runs(more, tmp_path).items() if run.result()] == ["b, seed 0"]
    changed = replace(sweep, arms={"a": {}, "b": {"model.temperature": 0.2}})
    message = (
        r"arms/b/seed_0 has the result of other settings or files: arm.model.temperature was 0.1, is 0.2"
    )
    with pytest.raises(ValueError, match=message):
        runs(changed, tmp_path)


ARMS: dict[str, Any] = {"a": {}, "b": {"model.temperature": 0.1}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "there is nothing to compare: give arms, a grid, or both"),
        ({"grid": {"model.temperature": []}}, "grid: model.temperature has no values"),
        ({"arms": ARMS, "reference": "c"}, "reference 'c' is none of the arms 'a', 'b'"),
        ({"arms": ARMS, "seeds": [1, 2, 1]}, r"seeds must be different .* got \[1, 2, 1\]"),
        (
            {"arms": ARMS, "seeds": []},
            r"seeds must be different whole numbers .* at least one, got \[\]",
        ),
        ({"arms": {"K 4": {}, "K-4": {}}}, "arms 'K 4' and 'K-4' would share a folder: rename one"),
        ({"grid": {"model.temperature": [1, 1]}}, "the grid has two arms 'temperature=1'"),
        ({"arms": ARMS, "devices": ["gpu"]}, "devices must be cpu, mps or cuda:NUMBER, got 'gpu'"),
        ({"arms": ARMS, "devices": ["cuda:99"]}, "there is no device cuda:99: torch finds"),
    ],
)
def test_mistakes_in_the_file(settings: dict[str, Any], message: str, training: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Sweep(training, **settings)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (
            {"a": {}, "b": {"model.heat": 1}},
            "arm 'b' cannot be trained: unrecognized arguments: --model.heat",
        ),
        ({"a": {}, "b": {"model.temperature": 0.5}}, "arms 'a' and 'b' have the same settings: leave one"),
    ],
)
def test_mistakes_in_arms(arms: dict[str, Any], message: str, training: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        plan(Sweep(training, arms=arms), tmp_path, read)


SCORES = {
    "baseline": {0: {"miou": 40.0, "fp": 9.0}, 1: {"miou": 41.0, "fp": 9.0}, 2: {"miou": 42.0, "fp": 9.0}},
    "new": {0: {"miou": 42.0}, 1: {"miou": 42.0}, 2: {"miou": 41.0}},
}


def test_differences_are_paired_by_seed() -> None:
    found = paired({2: 41.0, 0: 42.0, 1: 42.0, 9: 70.0}, {0: 40.0, 1: 41.0, 2: 42.0})
    # differences 2, 1, -1: mean .67, deviation 1.53, interval 4.303 * 1.53 / sqrt(3)
    assert (found.seeds, found.won, found.mean) == (4, 2, 48.75)
    assert found.difference == pytest.approx(2 / 3)
    assert found.difference_interval == pytest.approx(3.795, abs=1e-3)
    assert interval([1.0, 3.0]) == pytest.approx(12.7062, rel=1e-5)
    alone = paired({0: 1.0}, {1: 2.0})
    assert alone[:2] == (1, 1.0)
    assert all(math.isnan(value) for value in (alone.interval, alone.difference, alone.difference_interval))


def test_the_table() -> None:
    lines = report.table(SCORES, "baseline").splitlines()
    assert lines[:4] == [
        "miou              mean   vs baseline     won",
        "--------------------------------------------",
        "baseline  41.00 ± 2.48                      ",
        "new       41.67 ± 1.43  +0.67 ± 3.79  2 of 3",
    ]
    assert lines[5].startswith("fp ")
    assert len(lines) == 10
    assert "fp" not in report.table(SCORES, "baseline", ["miou"])
    single = {arm: {0: own[0]} for arm, own in SCORES.items()}
    assert "±" not in report.table(single, "baseline", ["miou"]).splitlines()[3]


def test_the_csv_files() -> None:
    head, first, second, third = report.table_csv(SCORES, "baseline").splitlines()
    assert head == "figure,arm,reference,seeds,mean,interval,difference,difference_interval,won"
    assert first.startswith("miou,baseline,baseline,3,41.0,")
    assert second.startswith("miou,new,baseline,3,41.6")
    assert third.startswith("fp,baseline,")
    lines = report.runs_csv(SCORES).splitlines()
    assert lines[0] == "arm,seed,miou,fp"
    assert lines[4] == "new,0,42.0,"


def test_figures_that_are_not_logged_are_named() -> None:
    with pytest.raises(ValueError, match="metrics: test logs no loss; it logs miou, fp"):
        report.check_metrics(["miou", "loss"], SCORES["baseline"][0])


def test_mistakes_in_seeds_and_thresholds_are_named(training: Any) -> None:
    with pytest.raises(
        InputError, match=r"^seeds must be different whole numbers of at least 0.*, got \[-1\]$"
    ):
        Sweep(training, arms={"a": {}}, seeds=[-1])
    with pytest.raises(InputError, match=r"^labels\[0\] \(0\.1\) is below labels\[1\] \(0\.3\): swap them$"):
        Classifier(training, labels=(0.1, 0.3))


def test_a_result_of_photos_that_have_changed_is_refused(training: Any, tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos")

    def read_photos(words: list[str]) -> dict[str, Any]:
        data = {"class_path": "fbr_plugin.data.FolderDataModule", "init_args": {"root": str(root)}}
        return {**read(words), "data": data}

    sweep = Sweep(training, arms={"one": {}}, seeds=[1])
    (one,) = plan(sweep, tmp_path / "out", read_photos)
    cached(one.folder / "result.json", one.key, lambda: {"scores": {"test/miou": 50.0}})
    assert plan(sweep, tmp_path / "out", read_photos)[0].result()
    write_mask(root / "SegmentationClass" / "2007_000000.png", np.zeros((32, 36)))
    with pytest.raises(InputError, match=r"seed_1 has the result of other settings or files: .*masks"):
        plan(sweep, tmp_path / "out", read_photos)
