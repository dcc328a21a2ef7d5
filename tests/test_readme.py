"""The programs in the README run as they stand."""

import re
from functools import partial
from pathlib import Path

import pytest

import fbr_plugin.data
from fbr_plugin.data import SyntheticDataModule

README = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_there_are_three_programs():
    assert len(PROGRAMS) == 3


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=["own", "no edit", "plain loop"])
def test_a_program_runs(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fbr_plugin.data, "SyntheticDataModule", partial(SyntheticDataModule, num_images=50))
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})


ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path) -> None:
    lines = page.read_text().splitlines()
    long = [
        line for line in lines if len(line) > 120 and not line.lstrip().startswith("|") and "](" not in line
    ]
    assert long == []
