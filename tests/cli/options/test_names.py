"""The table of option names: it is what the parsers have, and rejects nothing that they accept."""

import json
import random
import subprocess
import sys
from argparse import ArgumentError
from pathlib import Path

import pytest
from helpers.tiny import EXAMPLES
from jsonargparse import ArgumentParser

from fbr_plugin.cli import pipeline
from fbr_plugin.cli.main import COMMANDS
from fbr_plugin.cli.options import names
from fbr_plugin.cli.options.make_names import build_parsers, make_names
from fbr_plugin.cli.options.names import class_options, names_of, read_names, wrong_option
from fbr_plugin.cli.options.one_line import one_line, option_names
from fbr_plugin.cli.options.parser import Parser

CAM = str(EXAMPLES / "scenes_cam.yaml")
SCENES = ["--model", "CAM", "--data", "SyntheticDataModule"]
LINES = {
    "fit": SCENES,
    "validate": SCENES,
    "test": SCENES,
    "predict": [*SCENES, "--output_dir", "seeds"],
    "pipeline": ["--data", "SyntheticDataModule", "--classifier.model", "fbr_plugin.baselines.CAM"],
    "sweep": ["--file", str(EXAMPLES / "ablations" / "temperature.yaml")],
    "compare": ["seeds", "--data", "SyntheticDataModule"],
    "browse": ["seeds", "--data", "SyntheticDataModule"],
    "doctor": ["--data", "FolderDataModule", "--data.root", "photos"],
    "labels": ["masks", "folder", "--output", "labels.csv"],
    "import-weights": ["irn", "file"],
}
FOREIGN = "pytorch_lightning.demos.boring_classes.BoringModel"


@pytest.fixture(scope="module")
def real() -> dict[str, ArgumentParser]:
    """The parsers of the commands."""
    return {**build_parsers(), "pipeline": pipeline.parser(Parser)}


def complaint(parser: ArgumentParser, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a parser says of options; empty if it accepts them."""
    try:
        parser.parse_args(words)
    except ArgumentError as error:
        return one_line(str(error), parser)
    except SystemExit:
        return capsys.readouterr().err.removeprefix("error: ").rstrip()
    return ""


def test_the_table_is_what_the_parsers_have(real: dict[str, ArgumentParser]) -> None:
    message = "names.json is out of date: python -m fbr_plugin.cli.options.make_names"
    assert read_names() == json.loads(json.dumps(make_names(real))), message
    assert {*real} == {*LINES}
    for command, parser in real.items():
        made_of_types = ("+", ".help")  # of the Trainer's arguments
        every = (each for each in option_names(parser) if each != "print_shtab")
        known = [each for each in every if not (each[:8] == "trainer." and each.endswith(made_of_types))]
        assert names_of(command) == known


def changed_option(rng: random.Random, command: str) -> list[str]:
    """An option of a command or of a class, mostly misspelt, often after another class is named."""
    known, words = names_of(command), []
    keys = {key: read_names()[key.rpartition(".")[2]] for key in class_options(known)}
    if keys and rng.random() < 0.4:
        key = rng.choice([*keys])
        words = [f"--{key}", rng.choice([*keys[key], *([FOREIGN] if key.endswith("model") else [])])]
    for key, classes in keys.items():
        settings = rng.choice([*classes.values()])
        known = [*known, *(f"{key}.{rng.choice(['', 'init_args.'])}{each}" for each in settings)]
    letters = [*rng.choice(known)]
    for _ in range(rng.choice([0, 1, 1, 2])):
        place = rng.randrange(len(letters))
        letters[place : place + rng.choice([0, 1])] = rng.choice(["", "e", "_", ".", "+", ".x"])
    name = "".join(letters)
    value = CAM if name == "config" else "1"
    return [*words, *rng.choice([[f"--{name}", value], [f"--{name}={value}"]])]


def test_the_parsers_reject_the_same_options_in_the_same_words(
    real: dict[str, ArgumentParser],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of abbreviations
    rng, rejected = random.Random(0), 0
    for _ in range(150):
        command = rng.choice([*LINES])
        words = [*LINES[command], *changed_option(rng, command)]
        if found := wrong_option([command, *words]):
            rejected += 1
            assert complaint(real[command], words, capsys) == found, words
    assert rejected > 50


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("fit", ["--trainer.max_step", "1"]),
        ("fit", ["--model.optimizer.poly_powe", "1"]),
        ("fit", ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "runs"]),
        ("fit", ["--trainer.callbacks+", "EarlyStopping", "--trainer.callbacks.monitor", "loss"]),
        ("fit", ["--model", "CAMFBR", "--model.fbr.dim", "1"]),
        ("fit", ["--model.class_path", "AMN", "--model.init_args.smoothing", "1"]),
        ("fit", ["--optimizer", "SGD", "--optimizer.lr", "1"]),
        ("fit", ["--model={class_path: AMN}", "--model.optimizer.lr=1"]),
        ("fit", ["--model", "AMN", "-c", CAM, "--model.pooling", "gap"]),
        ("pipeline", ["--classifier.trainer.max_steps", "1", "--labels.fg", "0.5"]),
        ("compare", ["--names", "--b c", "--thresholds", "-1"]),
    ],
)
def test_what_the_parsers_accept_is_left_to_them(
    command: str,
    words: list[str],
    real: dict[str, ArgumentParser],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    line = [*LINES[command], *words]
    assert complaint(real[command], line, capsys) == ""
    assert wrong_option([command, *line]) is None


def test_the_data_of_doctor_are_photos_unless_others_are_named() -> None:
    assert wrong_option(["doctor", "--data.ten_crop", "1"])
    assert wrong_option(["doctor", "--data.ten_crop", "1", "--data", "WSOLDataModule"]) is None


def test_a_stage_takes_a_model_by_its_path_alone() -> None:
    for model, left in (("CAM", True), ("fbr_plugin.baselines.CAM", False)):
        words = ["pipeline", "--classifier.model", model, "--classifier.model.wrong", "1"]
        assert (wrong_option(words) is None) == left


@pytest.mark.parametrize("others", [["--help"], ["--model.help", "CAM"], ["--print_config"], ["--he"]])
def test_a_question_is_answered_beside_a_wrong_option(others: list[str]) -> None:
    assert wrong_option(["fit", "--wrong", "1"])
    assert wrong_option(["fit", "--wrong", "1", *others]) is None


def test_settings_in_a_file_with_dotted_names_are_left_to_the_parser(tmp_path: Path) -> None:
    words = ["fit", "--model", "CAM", "--config", str(tmp_path / "mine.yaml"), "--model.wrong", "1"]
    for content, left in (("model: {init_args: {}}", False), ("model.class_path: mine.Mine", True)):
        (tmp_path / "mine.yaml").write_text(content)
        assert (wrong_option(words) is None) == left


def test_without_the_source_of_lightning_the_parser_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget() -> None:
        names.trainer_arguments.cache_clear()
        names.names_of.cache_clear()

    with monkeypatch.context() as patch:
        patch.setattr(names, "find_spec", lambda name: None)
        forget()
        assert wrong_option(["fit", "--max_steps", "1"]) is None
    forget()
    assert wrong_option(["fit", "--max_steps", "1"])


ALL = """
import sys

from fbr_plugin.cli.main import main

for line in sys.stdin.read().splitlines():
    try:
        main(line.split(" "))
    except SystemExit as stop:
        print(stop.code, *({"torch", "numpy", "pytorch_lightning"} & {*sys.modules}))
"""


def test_no_wrong_option_waits_for_torch() -> None:
    lines = {
        f"{command} --wrong 1": f"unknown option --wrong; see fbr-plugin {command} --help"
        for command in COMMANDS
    }
    lines |= {
        "fit --trainer.max_stps 1": "unknown option --trainer.max_stps; did you mean --trainer.max_steps?",
        "fit --config scenes_cam --model.encodr 1": "unknown option --model.encodr of CAM; did you mean "
        "--model.encoder?",
        "doctor --data.rot 1": "unknown option --data.rot of FolderDataModule; did you mean --data.root?",
    }
    line = [sys.executable, "-c", ALL]
    done = subprocess.run(line, input="\n".join(lines), capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines() == [f"error: {each}" for each in lines.values()]
    assert done.stdout.splitlines() == ["2"] * len(lines)
