"""The comparison of FBR's effect: pairs, resumption, and the arithmetic of its table."""

import json
import math
from functools import partial
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import torch
from helpers.tiny import write_localization

from benchmarks import localization
from benchmarks.effect.figure import differences
from benchmarks.effect.overview import overview
from benchmarks.effect.runs import Setting, run, run_seed, uniform_classes
from benchmarks.effect.summary import csv, interval, matched, pairs_by_variant, table
from benchmarks.effect.variants import ABLATION, FINAL, GATE, LABELS, TUNING, Variant
from fbr_plugin import FBRConfig, GateConfig, functional, recommended
from fbr_plugin.baselines.cam.module import CAM
from fbr_plugin.baselines.ppc.module import PPCFBR
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.experiments import paired, recipes


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Two steps a stage, on 20 scenes of 32 pixels."""
    monkeypatch.setattr(paired, "SyntheticDataModule", partial(SyntheticDataModule, num_images=20))
    monkeypatch.setattr(recipes, "FROM_SCRATCH", recipes.FROM_SCRATCH._replace(cam_steps=2, steps=2))
    return Setting(size=32)


def result(name: str, seed: int, miou: float, recall: float = 60.0, stage: str = "cam") -> dict[str, Any]:
    """The result of a run, with curves that fall by a point a threshold."""
    figures = dict.fromkeys(("miou_label_free", "precision", "fp_cooccurring", "fp_other"), miou / 2)
    curves = {"recall_curve": [recall + 1, recall, recall - 1], "fp_curve": [30.0, 20.0, 10.0]}
    key = {"stage": stage, "name": name, "seed": seed}
    return {**key, "miou_oracle": miou, "recall": recall, **figures, **curves}


@pytest.mark.slow
def test_variants_are_paired_and_ended_runs_are_read(
    quick: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = {
        **FINAL,
        **LABELS,
        "off": Variant({"weight_fg": 0, "weight_bg": 0, "weight_seg": 0, "weight_sim": 0}),
    }
    names = ["baseline", "off", "seed control", "recommended", "recommended labels"]
    results = run_seed(quick, 3, ["cam", "amn"], names, variants, tmp_path)
    by_name = {(own["stage"], own["name"]): own for own in results}
    assert len(results) == 9  # a CAM has no labels
    for stage in ("cam", "amn"):
        assert by_name[stage, "off"]["miou_curve"] == by_name[stage, "baseline"]["miou_curve"]
        assert by_name[stage, "seed control"]["miou_curve"] != by_name[stage, "baseline"]["miou_curve"]
    folder = tmp_path / "default_small_32" / "seed_3"
    assert (folder / "cam" / "recommended_labels").is_dir()

    written = (folder / "amn" / "baseline.json").stat().st_mtime_ns
    again = run(quick, 3, "amn", "baseline", variants, tmp_path)
    assert again == json.loads(json.dumps(by_name["amn", "baseline"]))
    assert (folder / "amn" / "baseline.json").stat().st_mtime_ns == written
    (folder / "cam" / "baseline.ckpt").unlink()  # of which later stages need the weights
    cam = run(quick, 3, "cam", "baseline", variants, tmp_path)
    assert cam["miou_curve"] == by_name["cam", "baseline"]["miou_curve"]
    assert (folder / "cam" / "baseline.ckpt").is_file()
    with monkeypatch.context() as patch:  # other settings of the same name
        faster = {**recipes.FROM_SCRATCH.optimizer, "lr": 0.1}
        patch.setattr(recipes, "FROM_SCRATCH", recipes.FROM_SCRATCH._replace(optimizer=faster))
        other = run(quick, 3, "amn", "baseline", variants, tmp_path)
    assert other["key"] != by_name["amn", "baseline"]["key"]
    changed = {**variants, "off": Variant({}, gate={})}
    assert run(quick, 3, "cam", "off", changed, tmp_path)["key"] != by_name["cam", "off"]["key"]


def test_uniform_sampling_ends_with_the_training() -> None:
    graph = functional.semantic_graph
    prototypes, present = torch.randn(4, 8), torch.tensor([True, True, True, False])
    with pytest.raises(ZeroDivisionError), uniform_classes():
        _ = 1 / 0
    assert functional.semantic_graph is graph
    with uniform_classes():
        rows = functional.semantic_graph(prototypes, present, 0.5)
    torch.testing.assert_close(rows[0], torch.tensor([0, 0.5, 0.5, 0]))
    assert functional.semantic_graph is graph


def test_rates_are_multiplied(quick: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    configure = CAM.configure_optimizers

    def recorded(model: Any) -> Any:
        rates.append(model.optimizer.lr)
        return configure(model)

    monkeypatch.setattr(CAM, "configure_optimizers", recorded)
    run(quick, 0, "cam", "lr x2", TUNING, tmp_path)
    assert rates == [pytest.approx(2 * recipes.FROM_SCRATCH.cam_optimizer["lr"])]


def test_every_variant_is_a_valid_setting() -> None:
    everything = {**FINAL, **LABELS, **ABLATION, **TUNING, **GATE}
    assert not any("," in name for name in everything)  # as the command line separates them by commas
    for variant in everything.values():
        assert {*variant.settings(PPCFBR)} in ({*()}, {"fbr", "gate"})
    assert Variant(gate={}).settings(PPCFBR) == recommended()
    assert Variant({}).settings(PPCFBR) == {"fbr": FBRConfig.ppc(), "gate": GateConfig(enabled=False)}
    assert Variant({"num_clusters": 4}).settings(PPCFBR)["fbr"].num_clusters == 4
    assert Variant().settings(PPCFBR) == {}


def test_the_table_is_of_pairs() -> None:
    runs_of_baseline = [result("baseline", seed, 40.0 + seed) for seed in range(3)]
    runs_of_new = [result("new", seed, miou) for seed, miou in enumerate((42.0, 42.0, 41.0, 99.0))]
    head, _, baseline, new = table([*runs_of_baseline, *runs_of_new]).splitlines()
    assert head.startswith("| stage | variant | seeds | won | mIoU oracle |")
    assert baseline.startswith("| cam | baseline | 3 |  | 41.00 ± 1.00 |")
    # differences 2, 1, -1: mean .67, deviation 1.53, interval 4.303 * 1.53 / sqrt(3)
    assert new.startswith("| cam | new | 3 | 2 | +0.67 ± 3.79 | +0.33 ± 1.90 | +0.00 ± 0.00 |")


def test_a_variant_is_scored_at_the_baseline_s_threshold() -> None:
    sweep = {"thresholds": [0.0, 0.1, 0.2], "threshold_oracle": 0.1, "miou_curve": [30.0, 40.0, 35.0]}
    moved = {**sweep, "threshold_oracle": 0.0, "miou_curve": [45.0, 38.0, 30.0]}
    runs = [{**result("baseline", 0, 40.0), **sweep}, {**result("new", 0, 45.0), **moved}]
    head, _, baseline, new = (line.strip("| ").split(" | ") for line in table(runs).splitlines())
    column = head.index("mIoU fixed")
    assert (baseline[column], new[column]) == ("40.00", "-2.00")
    assert new[head.index("best threshold")] == "-0.10"


def test_every_run_is_a_line_of_the_csv() -> None:
    lines = csv([result("baseline", 4, 40.5), result("new", 4, 41.0)]).splitlines()
    columns = "miou_oracle,miou_label_free,recall,precision,fp_cooccurring,fp_other"
    assert lines[0] == f"stage,name,seed,{columns},threshold_oracle,label_miou,label_precision"
    assert lines[2] == "cam,new,4,41.0,20.5,60.0,20.5,20.5,20.5,,,"
    assert csv([result("gate, 8 words", 4, 41.0)]).splitlines()[1].startswith('cam,"gate, 8 words",4,41.0')


def test_the_overview_has_the_fresh_seeds_of_every_setting(tmp_path: Path) -> None:
    for setting, gain in (("default_small_64", 2.0), ("never_small_64", 5.0)):
        for seed in (7, 10, 101):  # 7 is one that decisions have seen
            for name in ("baseline", "recommended"):
                run = result(name, seed, 40 + seed + (gain if name == "recommended" else 0))
                path = tmp_path / setting / f"seed_{seed}" / "cam" / f"{name}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(run))
    rows = overview(tmp_path)
    gains = {
        row: [own["miou_oracle"] - base["miou_oracle"] for own, base in pairs] for row, pairs in rows.items()
    }
    assert gains == {
        ("cam", "scenes: gate"): [2.0, 2.0],
        ("cam", "scenes without evidence: gate"): [5.0, 5.0],
    }


def test_the_figure_has_a_dot_for_every_pair() -> None:
    results = [result("baseline", seed, 40.0) for seed in range(3)]
    results += [result("new", seed, 41.0 + seed) for seed in range(3)]
    (panel,) = differences(pairs_by_variant(results)).axes
    _, dots, mean = panel.lines[:3]
    assert list(dots.get_xdata()) == [1.0, 2.0, 3.0]
    assert list(mean.get_xdata()) == [2.0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["new"]


@pytest.mark.slow
def test_boxes_are_paired_and_ended_seeds_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_localization(tmp_path / "photos", count=16)
    words = ["", str(root), "--seeds", "2", "--size", "32", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*words, "--cam-epochs", "1", "--epochs", "1"])
    localization.main()
    printed = capsys.readouterr().out
    assert printed.splitlines()[2].startswith("| gt_known_loc | ")
    arms = json.loads((tmp_path / "out" / "seed_1.json").read_text())["arms"]
    # A step is too few for the gate to know any background, so both arms are equal to the last digit.
    assert arms["baseline"] == arms["gate"]
    monkeypatch.setattr(localization, "_fit", None)
    localization.main()
    assert capsys.readouterr().out == printed
    assert (tmp_path / "out" / "table.md").read_text() == printed


def test_false_positives_at_matched_recall() -> None:
    base, own = result("baseline", 0, 40.0, recall=60.0), result("new", 0, 40.0, recall=60.5)
    assert matched(own, base["recall"]) == pytest.approx(15.0)  # half way between two thresholds
    assert matched(base, base["recall"]) == 20.0
    assert math.isnan(matched(own, 58.0))  # no threshold has so low a recall: nothing to compare
    flat = {**base, "recall_curve": [61.0, 60.0, 60.0, 59.0], "fp_curve": [30.0, 20.0, 15.0, 10.0]}
    assert matched(flat, 60.0) == 15.0
    far = result("far", 0, 50.0, recall=40.0)
    *_, row = table(
        [base, result("baseline", 1, 40.0), far, result("far", 1, 40.0, recall=60.5)]
    ).splitlines()
    assert row.endswith("| -5.00 (of 1) |")


def test_the_interval_is_student_s() -> None:
    assert interval([1.0, 3.0]) == pytest.approx(12.7062, rel=1e-5)
    assert interval([1.0] * 5) == 0
    assert interval([1.0]) != interval([1.0])  # nan
    twenty = [float(value) for value in range(20)]
    assert interval(twenty) == pytest.approx(2.0930 * stdev(twenty) / 20**0.5, rel=1e-4)
