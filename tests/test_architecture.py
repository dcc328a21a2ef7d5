"""The architecture: who may import whom, how long a file may be, and that imports reach for no network."""

import ast
import configparser
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, BASELINES = ROOT / "src" / "fbr_plugin", ROOT / "baselines"
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if "baselines" not in path.relative_to(PACKAGE).parts]
FILES += sorted(BASELINES.rglob("*.py"))
LONGEST, FULLEST = 250, 12  # lines of a file, files of a folder

# What every part may import, and what else each may; "" is fbr_plugin's own __init__ with the public names.
COMMON = {
    "config",
    "contract",
    "distributed",
    "errors",
    "files",
    "instances",
    "presets",
    "processes",
    "stuff",
}
ALLOWED: dict[str, set[str]] = {
    "": {"modules", "training"},
    "config": set(),
    "contract": set(),
    "distributed": set(),
    "errors": set(),
    "files": set(),
    "instances": set(),
    "presets": set(),
    "processes": set(),
    "stuff": set(),
    "functional": set(),
    "modules": {"functional"},
    "data": set(),
    "metrics": set(),
    "doctor": {"data"},
    "figures": {"data", "functional", "metrics"},
    "postprocess": {"data", "functional", "metrics"},
    "browse": {"data", "figures", "metrics", "pipeline", "postprocess", "training"},
    "callbacks": {"data", "figures", "functional", "metrics", "postprocess"},
    "training": {"callbacks", "data", "functional", "modules", "postprocess"},
    "pipeline": {"callbacks", "data", "figures", "metrics", "postprocess", "training"},
    "baselines": {"callbacks", "data", "functional", "metrics", "modules", "postprocess", "training"},
    "experiments": {"baselines", "callbacks", "data", "figures", "pipeline"},
    "cli": {
        "baselines",
        "browse",
        "callbacks",
        "data",
        "doctor",
        "experiments",
        "figures",
        "pipeline",
        "postprocess",
        "training",
        "",
    },
    "__main__": {"cli"},
}
WITHOUT_LIGHTNING = {*COMMON, "functional", "modules", "postprocess", "figures"}


def imports(path: Path) -> Iterator[str]:
    """The full names that a file imports, also within functions; of `from a import b`, a.b."""
    package = "fbr_plugin"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part(name: str) -> str | None:
    """The part that a full name belongs to; None where it is not ours."""
    top, *rest = name.split(".")
    if top != "fbr_plugin":
        return None
    return rest[0] if rest and rest[0] in ALLOWED else ""


def part_of_file(path: Path) -> str:
    """The part that a file belongs to."""
    if path.is_relative_to(BASELINES):
        return "baselines"
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def test_every_part_is_known_and_exists():
    assert {part_of_file(path) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    own = part_of_file(path)
    allowed = {None, own, *ALLOWED[own], *COMMON}
    assert [name for name in imports(path) if part(name) not in allowed] == []


def test_the_reader_of_imports_sees_every_form(tmp_path):
    file = tmp_path / "file.py"
    lines = [
        "import fbr_plugin.baselines.amn",
        "from fbr_plugin import figures as f, FBRLoss",
        "from .data import x",
    ]
    file.write_text(
        "\n".join([*lines, "def g():", "    from fbr_plugin.modules.heads import h", "    import os"])
    )
    assert [part(name) for name in imports(file)] == ["baselines", "figures", "", "data", "modules", None]


def test_the_layers_have_no_cycle():
    order: list[str] = []
    while len(order) < len(ALLOWED):
        ready = [name for name in ALLOWED if name not in order and ALLOWED[name] <= set(order)]
        assert ready, f"a cycle among {set(ALLOWED) - set(order)}"
        order += ready


def test_the_mathematics_is_free_of_lightning():
    users = {part_of_file(path) for path in FILES if any("lightning" in name for name in imports(path))}
    assert users.isdisjoint(WITHOUT_LIGHTNING)


def test_collectives_are_in_one_file():
    users = [path for path in FILES if any("torch.distributed" in name for name in imports(path))]
    assert users == [PACKAGE / "distributed.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_documented(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    tree = ast.parse(text)
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert [getattr(node, "name", "module") for node in [tree, *public] if not ast.get_docstring(node)] == []


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in FILES}), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_folder_is_crowded(folder):
    assert len([path for path in folder.iterdir() if path.is_file()]) <= FULLEST


def test_setup_lists_every_folder():
    listed = configparser.ConfigParser()
    listed.read(ROOT / "setup.cfg")
    roots = {path: "fbr_plugin" if path.is_relative_to(PACKAGE) else "fbr_plugin.baselines" for path in FILES}
    bases = {"fbr_plugin": PACKAGE, "fbr_plugin.baselines": BASELINES}
    packages = {".".join([root, *path.parent.relative_to(bases[root]).parts]) for path, root in roots.items()}
    assert {*listed["options"]["packages"].split()} == {*packages, "fbr_plugin.examples"}


@pytest.mark.parametrize("name", ["baselines", "examples"])
def test_links_lead_where_setup_maps_the_packages(name):
    link = PACKAGE / name
    if not link.exists():
        pytest.skip("a source distribution has no symbolic links")
    assert link.resolve() == ROOT / name


def test_the_folder_of_baselines_is_no_package_of_its_own():
    with pytest.raises(ImportError, match=r"import fbr_plugin\.baselines, not"):
        runpy.run_path(str(BASELINES / "__init__.py"), run_name="baselines")


def test_contributing_answers_where_to_change_what():
    page = (ROOT / "CONTRIBUTING.md").read_text().split("## Where do I change ...?")[1].split("\n\n")[1]
    answers = re.findall(r"^\| (?!to \.\.\.).* \| `(\S+)` \|$", page, re.M)
    assert len(answers) >= 20
    assert [answer for answer in answers if not (ROOT / answer).exists()] == []


SCRIPT = """
import json, runpy, sys

reached = []

def refuse(event, arguments):
    if event in {"socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}:
        reached.append(f"{event} {arguments}")
        raise OSError("no network in this test")

sys.addaudithook(refuse)
import fbr_plugin, fbr_plugin.baselines

sys.argv = ["fbr-plugin", "fit", "--help"]
try:
    runpy.run_module("fbr_plugin", run_name="__main__")
except SystemExit as stop:
    seen = {"exit": stop.code, "reached": reached, "wandb": "wandb" in sys.modules}
    print(json.dumps(seen), file=sys.stderr)
"""


@pytest.mark.slow
def test_import_and_help_reach_for_no_network_and_no_wandb(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "fit" in run.stdout
    assert json.loads(run.stderr.splitlines()[-1]) == {"exit": 0, "reached": [], "wandb": False}
