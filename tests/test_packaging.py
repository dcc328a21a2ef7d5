"""What the wheel and the source distribution contain."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", "68")
ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def build(what: str, folder: Path) -> Path:
    """Build a distribution of a copy of the tracked files."""
    line = [sys.executable, "-c", BUILD, what, str(folder)]
    done = subprocess.run(line, cwd=folder / "source", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the sources, in which the build may leave its files."""
    folder = tmp_path_factory.mktemp("build")
    names = {"baselines", "benchmarks", "docs", "examples", "src", "tests"}
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*", "results")
    for path in ROOT.iterdir():
        if path.name in names:
            shutil.copytree(path, folder / "source" / path.name, symlinks=True, ignore=ignored)
        elif path.is_file() and not path.name.startswith("."):
            (folder / "source").mkdir(exist_ok=True)
            shutil.copy(path, folder / "source")
    return folder


@pytest.mark.slow
def test_the_wheel_has_the_package_and_the_examples(folder: Path) -> None:
    found = {
        name for name in zipfile.ZipFile(build("build_wheel", folder)).namelist() if "dist-info" not in name
    }
    sources = {
        f"fbr_plugin/{top}{path.relative_to(root).as_posix()}"
        for top, root in {"": ROOT / "src/fbr_plugin", "baselines/": ROOT / "baselines"}.items()
        for path in root.rglob("*.py")
        if not {"baselines", "examples"} & {*path.relative_to(root).parts}
    }
    examples = {
        f"fbr_plugin/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "examples").rglob("*.*")
    }
    assert found == {
        *sources,
        *(name for name in examples if not name.endswith("pyc")),
        "fbr_plugin/py.typed",
        "fbr_plugin/cli/options/names.json",
        *(f"fbr_plugin/browse/static/{name}" for name in ("index.html", "browse.css", "browse.js")),
    }


@pytest.mark.slow
def test_the_source_distribution_has_all_that_its_tests_read(folder: Path) -> None:
    with tarfile.open(build("build_sdist", folder)) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    for top in ("baselines", "benchmarks", "docs", "examples", "src", "tests"):
        files = (path for path in (folder / "source" / top).rglob("*.*") if "egg-info" not in str(path))
        assert {path.relative_to(folder / "source").as_posix() for path in files if path.is_file()} <= found
    assert {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "README.md", "setup.cfg"} <= found
