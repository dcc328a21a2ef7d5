"""`python -m benchmarks`: how both sides are timed and compared, how released code runs, and the tables."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.speed import released, report, timing
from benchmarks.speed.lines import LINES, measure_line
from benchmarks.speed.loop import Loop
from benchmarks.speed.timing import Case, DisagreementError

DOCS = Path(__file__).parents[1] / "docs"


def work(number: int) -> int:
    """Keep a core busy."""
    return sum(range(number))


def test_the_arms_take_turns_on_the_same_random_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "added_memory", lambda run: None)
    called = []

    def arm(name: str, number: int) -> Tensor:
        called.append(name)
        work(number)
        return torch.rand(3)

    def compare(ours: Tensor, theirs: Tensor) -> str:
        assert torch.equal(ours, theirs)
        return "equal"

    case = Case(lambda: arm("ours", 10**4), lambda: arm("released", 10**5), compare, "", units=2)
    found = timing.measured(case, 0.0, least=3)
    assert called[:8] == ["released", "ours", "ours", "released", "released", "ours", "ours", "released"]
    assert found["agreement"] == "equal"
    assert found["rounds"] == 3
    assert 3 < found["ratio"] < 30
    low, high = found["ratio of a round"]
    assert low <= found["ratio"] <= high


def test_our_arm_alone() -> None:
    found = timing.measured(Case(lambda: work(10**4), None, timing.same_loss(0), ""), 0.0, least=2)
    assert found["seconds"].keys() == {"ours"}
    assert "ratio" not in found


def test_processes_count() -> None:
    def child() -> None:
        subprocess.run([sys.executable, "-S", "-c", "sum(range(4 * 10**6))"], check=True)

    assert timing.processor_seconds(child) > 0.02


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_added_memory_is_the_peak_of_the_call() -> None:
    held = np.ones(10**7)  # 80 MB that are there before
    added = timing.added_memory(lambda: np.ones(5 * 10**6).sum() + held[0])
    assert added is not None
    assert 39 < added < 60


def test_exponents() -> None:
    sizes = [1, 2, 4, 8, 16]
    assert timing.exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert timing.exponent(sizes, [7.0] * 5) == pytest.approx(0)


def test_growth_of_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "added_memory", lambda run: None)

    def step(a: int, b: int) -> Any:
        return lambda: work(20_000 * a * a + b)

    found = timing.growth(step, {"a": 1, "b": 1}, {"a": (1, 2, 4), "b": (1, 2)})
    assert found["a"]["exponent of time"] == pytest.approx(2, abs=0.4)
    assert abs(found["b"]["exponent of time"]) < 1


def test_disagreements() -> None:
    assert timing.same_loss(1e-3)(1.0, 1.0) == "loss of the first step within 0e+00"
    with pytest.raises(DisagreementError, match=r"losses of the first step are 1 and 1\.1"):
        timing.same_loss(1e-3)(1.0, 1.1)
    with pytest.raises(DisagreementError, match="nan"):
        timing.same_loss(1e-3)(float("nan"), 1.0)
    mask = np.zeros((4, 5))
    assert timing.differing_pixels(0)(mask, mask) == "0 of 20 pixels differ"
    with pytest.raises(DisagreementError, match="20 of 20 pixels differ"):
        timing.differing_pixels(0.5)(mask, mask + 1)
    with pytest.raises(DisagreementError, match=r"shapes \(4, 5\) and \(4,\)"):
        timing.differing_pixels(0.5)(mask, mask[:, 0])


def test_a_loop_takes_a_step_for_each_call() -> None:
    seen, weight = [], torch.ones((), requires_grad=True)

    def run(batches: Loop) -> None:
        for batch in batches:
            seen.append(batch)
            (weight * len(seen)).backward()

    plain = Tensor.backward
    loop = Loop(run, "batch")
    assert seen == []
    assert [loop(), loop()] == [1.0, 2.0]
    assert seen == ["batch"] * 2
    loop.close()
    assert Tensor.backward is plain


def test_an_error_of_a_loop_is_raised_at_its_step() -> None:
    def run(batches: Loop) -> None:
        next(batches)
        raise ValueError("of the loop")

    loop = Loop(run, None)
    with pytest.raises(ValueError, match="of the loop"):
        loop()


def test_released_code_runs_in_its_folder_without_gpu_and_packages(tmp_path: Path) -> None:
    code = "import chainercv.datasets\nfrom pycococreatortools import pycoco\nones = torch.ones(2).cuda()\n"
    (tmp_path / "stated.txt").write_text("kept")
    (tmp_path / "theirs.py").write_text(f"import torch\n{code}text = open('stated.txt').read()\n")
    here, path = Path.cwd(), list(sys.path)
    with released.running(tmp_path):
        theirs: ModuleType = __import__("theirs")
        Path("written.txt").touch()
        assert (theirs.text, theirs.ones.tolist()) == ("kept", [1.0, 1.0])
        with pytest.raises(released.NotMeasuredError, match="needs the package chainercv"):
            theirs.chainercv.datasets.VOC()
    assert (Path.cwd(), sys.path) == (here, path)
    assert not {"theirs", "chainercv", "pycococreatortools"} & sys.modules.keys()
    assert {file.name for file in tmp_path.iterdir()} == {"stated.txt", "theirs.py"}


def test_a_clone_of_another_commit_is_not_used(tmp_path: Path) -> None:
    clone = tmp_path / "irn"
    clone.mkdir()
    assert released.fetch(tmp_path, "jiwoon-ahn/irn") == ""  # an unpacked archive
    subprocess.run(["git", "init", "-q", clone], check=True)
    assert "irn is at no commit, expected a2ece00" in released.fetch(tmp_path, "jiwoon-ahn/irn")


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], **_: object) -> None:
        raise subprocess.CalledProcessError(128, command, stderr="hint\nfatal: unable to access")

    monkeypatch.setattr(subprocess, "run", run)
    reason = released.fetch(tmp_path, "wpy1999/BAS")
    assert reason == "wpy1999/BAS could not be fetched: fatal: unable to access"


def test_a_line_without_released_code_has_ours(tmp_path: Path) -> None:
    number = next(n for n, line in enumerate(LINES) if line.title == "IRN, random walk")
    found = measure_line(number, None, None, 0.0, True, tmp_path)
    assert found["seconds"].keys() == {"ours"}


def test_a_line_whose_released_code_fails_says_why(tmp_path: Path) -> None:
    number = next(n for n, line in enumerate(LINES) if line.title == "IRN, random walk")
    (tmp_path / "irn").mkdir()
    found = measure_line(number, tmp_path, None, 0.0, True, tmp_path)
    assert found["not measured"].startswith("ModuleNotFoundError: No module named 'misc'")
    assert found["seconds"].keys() == {"ours"}


def test_commits_are_those_of_the_comparison() -> None:
    text = (DOCS / "fidelity.md").read_text()
    assert {line.repository for line in LINES} == released.COMMITS.keys()
    for repository, commit in released.COMMITS.items():
        assert f"[{repository}](https://github.com/{repository}) {commit[:7]}" in text.replace("\n", " ")
    titles = [line.title for line in LINES]
    assert len({*titles}) == len(titles)


@pytest.mark.skipif(not (DOCS / "performance.json").exists(), reason="needs python -m benchmarks --document")
def test_the_page_is_made_of_the_figures() -> None:
    result = json.loads((DOCS / "performance.json").read_text())
    page = (DOCS / "performance.md").read_text()
    assert report.filled(page, result) == page
    assert [found["title"] for found in result["lines"]] == [line.title for line in LINES]
    changed = json.loads(json.dumps(result))
    changed["lines"][0]["seconds"]["ours"] *= 2
    assert report.filled(page, changed) != page


def test_a_line_of_the_table() -> None:
    found = {
        "title": "Line",
        "released": "owner/name",
        "note": "as it is",
        "size": "two photos",
        "seconds": {"released": 1.234, "ours": 0.01},
        "ratio": 123.4,
        "ratio of a round": [120.0, 125.0],
        "memory": {"released": 50.2, "ours": None},
        "agreement": "equal",
    }
    row = report.markdown({"lines": [found]}).splitlines()[-1]
    about = "**Line**; two photos. `owner/name`: as it is"
    assert row == f"| {about} | 1.23 | 0.01 | 123.40 | 120.00 to 125.00 | 50 | - | equal |"
    alone = {"title": "Line", "released": "owner/name", "note": "", "not measured": "no network"}
    row = report.markdown({"lines": [alone]}).splitlines()[-1]
    assert row == "| **Line**. `owner/name` | - | - | - | - | - | - | not measured: no network |"
