"""The console script before it runs a command: help, version, completion, and what it does not import."""

import configparser
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny import command

import fbr_plugin
from fbr_plugin.cli import evaluate, export
from fbr_plugin.cli.main import COMMANDS
from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.postprocess.evaluate import evaluate as evaluate_function
from fbr_plugin.postprocess.exports import export as export_function
from fbr_plugin.postprocess.instances.evaluate import score_instances

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_as_the_readme_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command("--help")
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert re.findall(r"^  (\w[\w-]+) {2,}\w", printed, re.M) == [*COMMANDS]
    table = (ROOT / "README.md").read_text().split("| command | what it does |")[1].split("\n\n")[0]
    assert {*re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\|([^|]+)\|", table, re.M)))} == {*COMMANDS}


def test_the_version_has_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--version")
    assert capsys.readouterr().out == f"fbr-plugin {fbr_plugin.__version__}\n"
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["metadata"]["version"] == "attr: fbr_plugin.__version__"
    assert f"\nversion: {fbr_plugin.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_public_names_are_imported_when_used() -> None:
    assert {*fbr_plugin.__all__} <= {*dir(fbr_plugin)}
    for name in fbr_plugin.__all__:
        fbr_plugin.__dict__.pop(name, None)
        assert fbr_plugin.__getattr__(name).__name__ == name
    with pytest.raises(AttributeError, match="module 'fbr_plugin' has no attribute 'FBRMixim'"):
        fbr_plugin.FBRMixim  # noqa: B018


IMPORTED = """
import sys

from fbr_plugin.cli.main import main

try:
    main()
except SystemExit as stop:
    print(stop.code or 0, *({"torch", "wandb", "numpy"} & {*sys.modules}))
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("evaluate --help", 0),
        ("evaluate --predictons x", 2),
        ("evaluate instances --bogus x", 2),
        ("export --help", 0),
        ("demo --help", 0),
        ("evaluat", 2),
        ("fit --config nowhere.yaml", 2),
    ],
)
def test_no_answer_waits_for_torch(words: str, code: int) -> None:
    line = [sys.executable, "-c", IMPORTED, *words.split()]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1:] == [str(code)], done.stderr


@pytest.mark.parametrize(
    ("parser", "function"),
    [
        (evaluate.parser, evaluate_function),
        (evaluate.instance_parser, score_instances),
        (export.parser, export_function),
    ],
)
def test_the_options_are_the_settings_of_the_function(
    parser: Callable[[], Parser], function: Callable[..., object]
) -> None:
    settings, defaults = inspect.signature(function).parameters, parser().get_defaults()
    assert [*defaults.keys()] == [*settings]
    for name, setting in settings.items():
        assert defaults[name] in (None, setting.default)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("fbr-plugin ", {*COMMANDS}),
        ("fbr-plugin ev", {"evaluate"}),
        ("fbr-plugin evaluate --c", {"--class_names", "--calibrate"}),
        ("fbr-plugin export --what co", {"coco", "compact", "coco-instances"}),
        ("fbr-plugin fit --trainer.max_t", {"--trainer.max_time"}),
        ("fbr-plugin predict --config scenes_cam --model.optimizer.h", {"--model.optimizer.head_lr"}),
        ("fbr-plugin test --config nowhere --da", {"--data", "--data.help"}),
        ("fbr-plugin fit --data fbr_plugin.data.V", {"fbr_plugin.data.VOCDataModule"}),
        ("fbr-plugin pipeline --irn.model fbr_plugin.baselines.I", {"fbr_plugin.baselines.IRN"}),
        ("fbr-plugin compare masks --names a --rows ", {"quantiles", "gain", "loss", "random"}),
        ("fbr-plugin labels ", {"masks", "xml", "coco", "csv", "folders"}),
    ],
)
def test_the_shell_completes_commands_options_and_choices(line: str, found: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    file = tmp_path / "completions"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(file), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked |= {"PYTHONPROFILEIMPORTTIME": "1"}
    answer = [sys.executable, "-m", "fbr_plugin"]
    done = subprocess.run(answer, env={**os.environ, **asked}, stderr=subprocess.PIPE, text=True, timeout=60)
    assert "argcomplete" in done.stderr
    assert not re.search(r"\| +(torch|numpy)$", done.stderr, re.M)
    shown = {word.strip() for word in file.read_text().splitlines()}
    assert found == {
        word for word in shown if line.split(" ")[-1].startswith("-") or not word.startswith("-")
    }
