"""What the shell sees of a mistake in the options: one line with the option, the value and the remedy."""

import re
from pathlib import Path

import pytest
from helpers.tiny import EXAMPLES, command
from jsonargparse import ArgumentParser

from fbr_plugin.cli.main import COMMANDS
from fbr_plugin.cli.options.one_line import nearest, one_line

FIT = ["fit", "--config", "scenes_cam"]
PIPELINE = ["pipeline", "--config", "scenes_pipeline"]


def complaint(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a wrong command line prints."""
    with pytest.raises(SystemExit) as stop:
        command(*words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["evaluat"], "unknown command evaluat; did you mean evaluate?"),
        (["xyz"], f"unknown command xyz; there are {', '.join(COMMANDS)}"),
        ([], f"name a command: {', '.join(COMMANDS)}; see fbr-plugin --help"),
        (
            ["--config", "c"],
            "--config comes before the command: give the command first; see fbr-plugin --help",
        ),
        ([*FIT, "--modl.encoder", "a"], "unknown option --modl.encoder; did you mean --model.encoder?"),
        (
            [*FIT, "--model.encodr", "a"],
            "unknown option --model.encodr of CAM; did you mean --model.encoder?",
        ),
        (
            [*FIT, "--model.optimizer.lrr", 1],
            "unknown option --model.optimizer.lrr of CAM; did you mean --model.optimizer.lr?",
        ),
        (
            [*FIT, "--model.fbr.dim", 1],
            "unknown option --model.fbr.dim of CAM; --model.help fbr_plugin.baselines.CAM lists those "
            "there are",
        ),
        ([*FIT, "--max_steps", 1], "unknown option --max_steps; did you mean --trainer.max_steps?"),
        ([*FIT, "--xyz", 1], "unknown option --xyz; see fbr-plugin fit --help"),
        ([*FIT, "extra"], "unexpected 'extra': options start with --; see fbr-plugin fit --help"),
        ([*FIT, "--model.optimizer.lr", "a"], "--model.optimizer.lr must be of type float, got a"),
        ([*FIT, "--seed_everything", "one"], "--seed_everything must be of type bool or int, got one"),
        ([*FIT, "--model.encoder"], "--model: expected one argument"),
        ([*FIT, "--model", "CAN"], "--model CAN: no class has this name; did you mean CAM?"),
        (
            [*FIT, "--model", "fbr_plugin.baselines.CAMM"],
            "--model fbr_plugin.baselines.CAMM: module 'fbr_plugin.baselines' has no attribute 'CAMM'; did "
            "you mean CAM?",
        ),
        (
            [*FIT, "--model", "torch.nn.Conv2d"],
            "--model torch.nn.Conv2d: Import path does not correspond to a subclass of LightningModule; give "
            "the class path of a LightningModule, such as mine.Mine",
        ),
        (
            [*FIT, "--data", "SynteticDataModule"],
            "--data SynteticDataModule: no class has this name; did you mean SyntheticDataModule?",
        ),
        (["fit", "--data", "SyntheticDataModule"], "missing --model; see fbr-plugin fit --help"),
        (["fit", "--model", "CAM"], "missing --data; see fbr-plugin fit --help"),
        (["predict", "--config", "scenes_cam"], "missing --output_dir; see fbr-plugin predict --help"),
        (["import-weights", "irn"], "missing file; see fbr-plugin import-weights --help"),
        ([*PIPELINE, "--mask.refine", "crf"], "unknown option --mask.refine; did you mean --masks.refine?"),
        (
            [*PIPELINE, "--masks.refine", "crff"],
            "--masks.refine must be one of 'auto', 'crf', 'pamr', 'none', got crff; did you mean crf?",
        ),
        (
            ["compare", "a", "--rows", "best"],
            "--rows must be one of 'quantiles', 'gain', 'loss', 'random', got best",
        ),
        (["evaluate", "--predictons", "a"], "unknown option --predictons; did you mean --predictions?"),
        (
            ["evaluate", "--predictions", "a", "--masks", "b", "--thresholds", "[1.5]"],
            "--thresholds must be of type float, got [1.5]",
        ),
        (["demo", "--preset", "easy"], "--preset must be one of 'default', 'hard', 'control', got easy"),
        (["demo", "--steps", "few"], "--steps must be of type int, got few"),
    ],
    ids=lambda each: " ".join(map(str, each[1:])) if isinstance(each, list) else "",
)
def test_a_mistake_is_one_line(words: list[object], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(words, capsys) == f"error: {line}"


@pytest.mark.parametrize("name", ["config", "c"])
def test_a_wrong_setting_in_a_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {class_path: CAM, init_args: {encodr: small}}\ndata: SyntheticDataModule\n")
    dashes = "--" if name == "config" else "-"
    line = "error: unknown option --model.encodr of CAM; did you mean --model.encoder?"
    assert complaint(["fit", f"{dashes}{name}", file], capsys) == line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model:\n  class_path: CAM\n init_args: [", r"mine.yaml is no YAML: .*, line 3, column 2"),
        (b"\xff\xfe\x00\x01", "mine.yaml is no YAML: it is no text file in UTF-8"),
        ("model", r"mine.yaml has no settings: write lines NAME: VALUE, as --print_config does"),
        (
            None,
            r"mine.yaml is neither a file nor one of ours by name. There are ablations/..., folder_amn_fbr, ",
        ),
    ],
)
def test_a_file_that_has_no_settings(
    content: str | bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for words in (["--config", file], [f"--config={file}"]):
        assert re.match(f"error: --config: .*{message}", complaint(["fit", *words], capsys))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scenes_camm", "did you mean scenes_cam? There are ablations/..., folder_amn_fbr, "),
        ("examples/scenes_cam.yaml", "did you mean scenes_cam?"),
        (
            "recipes/coco/amm",
            "did you mean recipes/coco/amn? There are recipes/coco/amn, recipes/coco/amn_fbr",
        ),
        ("recipes/vocc", "There are recipes/coco/..., recipes/voc/..., recipes/wsol/..."),
    ],
)
def test_a_name_that_is_none_of_ours(
    name: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in complaint(["fit", "--config", name], capsys)


def test_settings_go_by_name_and_by_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = []
    for given in ("scenes_cam", "scenes_cam.yaml", EXAMPLES / "scenes_cam.yaml"):
        with pytest.raises(SystemExit, match="0"):
            command("fit", "--config", given, "--print_config")
        printed.append(capsys.readouterr().out)
    assert "fbr_plugin.baselines.CAM" in printed[0]
    assert printed[0] == printed[1] == printed[2]


def test_a_message_that_is_not_known_is_kept_in_one_line() -> None:
    parser = ArgumentParser(prog="fbr-plugin fit")
    assert one_line("first\n  second", parser) == "first; second; see fbr-plugin fit --help"
    long = one_line(f"Parser key \"a\":\n  Expected a <class 'int'>. Got value: {'9' * 99}.5", parser)
    assert long == f"--a must be of type int, got {'9' * 80}..."


def test_the_nearest_name_replaces_the_first_unknown_part() -> None:
    known = ["model", "trainer.max_steps", "trainer.logger"]
    assert nearest("trainr.max_steps", known) == "trainer.max_steps"
    assert nearest("trainer.max_stps", known) == "trainer.max_steps"
    assert nearest("max_steps", known) == "trainer.max_steps"
    assert nearest("xyz", known) is None
