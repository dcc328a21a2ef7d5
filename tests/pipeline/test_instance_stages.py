"""The stages of instances on tiny scenes: files, scores, figures, what is kept, and mistakes."""

import sys
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentError
from test_pipeline import run, scenes, settings

from fbr_plugin.data.instances.files import read_instances

NETWORK = {
    "model": {
        "class_path": "fbr_plugin.baselines.MaskRCNN",
        "init_args": {"encoder": "small", "width": 16, "anchor_scale": 4, "max_detections": 4},
    },
    "trainer": {"max_steps": 2},
}
APS = {"ap_25", "ap_50", "ap_70", "ap_75", "ap_mean", "ap_volume", "abo", "coco_ap"}


def whole(output: Path, truth: str = "eval") -> dict[str, Any]:
    """The settings of all stages up to a network of instances."""
    data = scenes()
    data["init_args"] |= {"instances": truth, "num_images": 8}
    made = settings(output, data, instances={}, instance_network=NETWORK)
    for name in ("baseline", "segmentation"):  # the classifier's own seeds are enough
        made.pop(name)
    return made


@pytest.mark.slow
def test_from_labels_to_scored_instances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = whole(tmp_path / "run")
    report = run(config)
    for stage in ("instances", "instance_predictions"):
        scores = report["stages"][stage]["scores"]
        assert scores.keys() >= APS
        assert all(0 <= scores[name] <= 100 for name in APS)
        files = sorted((tmp_path / "run" / stage / "instances").iterdir())
        assert [path.name for path in files] == [f"scene_{index:06d}.json" for index in range(8)]
        assert (tmp_path / "run" / stage / "examples.png").stat().st_size > 10_000
    found = [read_instances(path, 5) for path in (tmp_path / "run/instances/instances").iterdir()]
    assert any(len(each["labels"]) for each in found)
    assert all(each["masks"].shape[1:] == (32, 32) for each in found)
    assert "AP at IoU .50" in capsys.readouterr().out

    config["instances"] = {"background": 0.25}  # the default
    run(config)
    assert capsys.readouterr().out.count("cached") == len(report["stages"])
    # Another background makes new instances, and keeps the trainings before them.
    config["instances"] = {"background": 0.5}
    run(config, "--until", "instances")
    said = capsys.readouterr().out
    assert "irn: cached" in said
    assert "instances: instances.background was 0.25, is 0.5" in said


@pytest.mark.slow
def test_without_true_instances_nothing_is_scored(tmp_path: Path) -> None:
    config = whole(tmp_path / "run", "none")
    config.pop("instance_network")
    report = run(config)
    assert report["stages"]["instances"]["scores"] == {"background": 0.25}  # as published
    assert not (tmp_path / "run/instances/examples.png").exists()
    assert len([*(tmp_path / "run/instances/instances").iterdir()]) == 8


def test_mistakes_show_before_anything_is_made(tmp_path: Path) -> None:
    for change, message in (
        ({"irn": {"model": None}}, "instances are made from the displacements of IRN: add irn.model"),
        ({"instances": None}, "instance_network trains on instances, and none are made: add instances"),
        (
            {"instances": {"background": 1.5}},
            r"a background from 0 to below 1, got power=1.0, cluster_threshold=2.5 and background=1.5",
        ),
        ({"instances": {"power": 0.0}}, "instances need a power and a cluster_threshold above 0"),
        ({"instances": {"cluster_threshold": 0.0}}, "got power=1.0, cluster_threshold=0.0"),
    ):
        with pytest.raises((ValueError, ArgumentError, SystemExit), match=message):
            run({**whole(tmp_path / "run"), **change}, "--dry-run")
    assert not (tmp_path / "run").exists()


def test_a_missing_package_shows_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ImportError, match="need pycocotools: pip install 'fbr_plugin\\[coco\\]'"):
        run(whole(tmp_path / "run"), "--dry-run")
    assert not (tmp_path / "run").exists()
