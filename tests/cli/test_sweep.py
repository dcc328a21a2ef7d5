"""Sweeps that really train: processes, interruptions, failures, and what the command says of mistakes."""

import csv
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from helpers.tiny import EXAMPLES, command

from fbr_plugin.cli.sweep import train
from fbr_plugin.experiments.sweep.plan import Run
from fbr_plugin.experiments.sweep.settings import options

TINY = {"trainer.max_steps": 2, "data.num_images": 8, "data.size": 32, "data.loading.batch_size": 4}
AMN = {**TINY, "model.gate.enabled": False, "model.fbr.enabled": True, "model.fbr.bank_size": 400}
OFF = {f"model.fbr.weight_{term}": 0 for term in ("fg", "bg", "seg", "sim")}
PARTS: dict[str, Any] = {
    "training": str(EXAMPLES / "scenes_amn_fbr.yaml"),
    "classifier": {"training": str(EXAMPLES / "scenes_cam.yaml"), "settings": TINY, "labels": [0.35, 0.1]},
    "settings": {**AMN, "figures.every_n_steps": 0},
    "arms": {"baseline": {"model.fbr.enabled": False}, "weights of 0": OFF},
    "seeds": [0, 1],
    "devices": ["cpu"],
    "metrics": ["miou_oracle"],
}
CAM = {"training": PARTS["classifier"]["training"], "settings": TINY, "seeds": [0], "devices": ["cpu"]}


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def write(settings: dict[str, Any]) -> Path:
    """The file of a sweep."""
    Path("parts.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return Path("parts.yaml")


def results() -> dict[Path, int]:
    """When each result was written."""
    return {path: path.stat().st_mtime_ns for path in Path("runs").rglob("result.json")}


def started_by(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    own = [int(child) for path in lists for child in path.read_text().split()]
    return own + [each for child in own for each in started_by(child)]


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_a_sweep_killed_twice_repeats_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    file, kept = write(PARTS), dict[Path, int]()
    words = [sys.executable, "-m", "fbr_plugin", "sweep", str(file)]
    for least in (1, 3):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while len(results()) < least:
                assert process.poll() is None
                time.sleep(0.05)
            started = started_by(process.pid)
            process.kill()
        while any(map(alive, started)):  # they end with the sweep
            time.sleep(0.05)
        assert kept.items() <= results().items()
        kept = results()
    assert 3 <= len(kept) < 6
    command("sweep", file)
    assert f"6 runs, {len(kept)} of them done" in capfd.readouterr().out
    assert kept.items() <= results().items()
    assert len(results()) == 6
    output = Path("runs", "sweep", "parts")
    table = (output / "table.txt").read_text()
    assert table.splitlines()[0].split() == ["miou_oracle", "mean", "vs", "baseline", "won"]
    rows = list(csv.DictReader((output / "table.csv").open()))
    # The same data, initialisation and batches: losses of weight 0 change nothing, to the last digit.
    assert {row["difference"] for row in rows if row["arm"] == "weights of 0"} == {"0.0"}
    scores = {row["seed"]: row["miou_oracle"] for row in csv.DictReader((output / "runs.csv").open())}
    assert len({*scores.values()}) == 2
    command("sweep", file, "--output", "whole")  # never interrupted
    for name in ("table.txt", "table.csv", "runs.csv"):
        assert (output / name).read_bytes() == Path("whole", name).read_bytes()
    written = results()
    command("sweep", file)
    assert capfd.readouterr().out.count("6 runs, 6 of them done") == 1
    assert results() == written


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_are_kept() -> None:
    file = write({**CAM, "arms": {"good": {}, "bad": {"model.encoder": "nothing"}}})
    with pytest.raises(RuntimeError, match=r"^bad, seed 0: .*nothing.* \(its log: runs/.*/log.txt\)$"):
        command("sweep", file)
    kept = results()
    assert [path.parts[-3] for path in kept] == ["good"]
    assert "Traceback" in Path("runs/sweep/parts/arms/bad/seed_0/log.txt").read_text()
    command("sweep", write({**CAM, "arms": {"good": {}, "bad": {"trainer.max_steps": 1}}}))
    assert kept.items() <= results().items()
    assert len(results()) == 2


@pytest.mark.slow
def test_runs_form_a_group_in_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_GROUP", "WANDB_NAME"):
        monkeypatch.setenv(name, "")  # restores it after the test
        monkeypatch.delenv(name)
    wandb.teardown()  # it keeps the environment of an earlier run in this process
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    seen, finish = [], wandb.finish

    def noted() -> None:
        assert wandb.run is not None
        seen.append((wandb.run.group, wandb.run.name))
        finish()

    monkeypatch.setattr(wandb, "finish", noted)
    words = ["--config", str(EXAMPLES / "scenes_cam_fbr_wandb.yaml"), *options(TINY)]
    (tmp_path / "run").mkdir()
    scores = train(Run("K 4", 3, tmp_path / "run", words, {}), "cpu", "parts")
    assert 0 <= scores["miou_label_free"] <= scores["miou_oracle"] <= 100
    assert seen == [("parts", "K 4, seed 3")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"a": {}, "b": {"model.fbr.heat": 1}}}, r"arm 'b' cannot be trained: .* no field 'heat'"),
        (
            {"arms": {"a": {}, "b": {"trainer.heat": 1}}},
            r"arm 'b' cannot be trained: unknown option --trainer.heat",
        ),
        (
            {"settings": {"model.fbr.temperature": "hot"}},
            r"arm 'baseline' cannot be trained: temperature must be of type float, got 'hot'",
        ),
        ({"training": "missing.yaml"}, r"^parts.yaml: --training: .*File does not exist: .*missing.yaml"),
        ({"seeds": [0, 0.5]}, r"^parts.yaml: --seeds must be of type int, got 0.5"),
        ({"metric": ["miou"]}, r"^parts.yaml: unknown option --metric; did you mean --metrics"),
        ({"reference": "none"}, r"reference 'none' is none of the arms 'baseline', 'weights of 0'"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        command("sweep", write({**PARTS, **changes}))
    assert "\n" not in str(caught.value)
    assert not Path("runs").exists()


def test_the_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"^parts.yaml is neither a file nor one of ours by name"):
        command("sweep", "parts.yaml")
    for words in ([], ["--dry-run"]):
        with pytest.raises(ValueError, match="name the file of the sweep: fbr-plugin sweep FILE"):
            command("sweep", *words)


ABLATIONS = sorted((EXAMPLES / "ablations").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_ablations_are_planned(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("sweep", path, "--dry-run", "--seeds", "[3]")
    settings, lines = yaml.safe_load(path.read_text()), capsys.readouterr().out.splitlines()
    listed = [line.split(maxsplit=2)[-1].removesuffix(", seed 3") for line in lines]
    assert {line[:5] for line in lines} == {"to do"}
    assert (listed[0] == "classifier") == ("classifier" in settings)
    assert settings.get("reference", listed[1]) in listed
    assert {*settings.get("arms", {})} <= {*listed}
    assert not Path("runs").exists()


def test_there_are_at_most_twelve_ablations() -> None:
    assert 1 <= len(ABLATIONS) <= 12
