"""`fbr-plugin import-weights`: its file, its table, what loads the file, and mistakes in one line."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import command, quick, write_photos
from jsonargparse import Namespace
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fbr_plugin.baselines import CAM, PPCFBR
from fbr_plugin.baselines.bas.trained_cam import TrainedCAM
from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.released.kinds import KINDS, Kind
from fbr_plugin.callbacks.checkpoints import read_checkpoint
from fbr_plugin.cli.lightning import checkpoint_settings
from fbr_plugin.cli.main import main
from fbr_plugin.errors import UserError

SMALL = {"encoder": "small"}
KEYS = {r"body\.(.+)": r"encoder.\1", r"copy\..+": None}


@pytest.fixture(autouse=True)
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released networks with a small encoder: a classifier, its encoder alone, and FBR on PPC."""
    monkeypatch.chdir(tmp_path)
    classifier = Kind("a CAM", "CAM", {r"fc\.weight": "head.weight", **KEYS}, SMALL, ("head.weight", 0))
    monkeypatch.setitem(KINDS, "tiny", classifier)
    encoder = Kind("an encoder", None, {r"trunk\.(.+)": r"\1"}, SMALL)
    monkeypatch.setitem(KINDS, "tiny_encoder", encoder)
    losses = {"preset": "ppc", "bank_size": 70}
    settings = {**SMALL, "shared_projection": True, "saliency": True, "fbr": losses}
    names = {r"proj\.weight": "head.projection.weight", r"(encoder|head|fbr)\.(.+)": r"\1.\2"}
    ppc = Kind("FBR on PPC", "PPCFBR", names, settings, ("head.classifier.weight", 1))
    monkeypatch.setitem(KINDS, "tiny_ppc", ppc)


def released(**changes: Tensor | None) -> dict[str, Tensor]:
    """The state dict of a released CAM of 2 classes with repeated tensors, and with changes; None removes."""
    torch.manual_seed(0)
    own = CAM(2, encoder="small").state_dict()
    state = {name.replace("encoder.", "body.").replace("head.", "fc."): value for name, value in own.items()}
    state |= {f"copy.{number}": torch.zeros(1) for number in range(3)}
    state |= {name.replace("__", "."): value for name, value in changes.items() if value is not None}
    gone = {name.replace("__", ".") for name, value in changes.items() if value is None}
    return {name: value for name, value in state.items() if name not in gone}


def fails(*words: object) -> str:
    """The message of a mistake."""
    with pytest.raises(UserError) as caught:
        command("import-weights", *words)
    return str(caught.value)


def test_file_table_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    state = released()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, "cam.pth.pth")
    command("import-weights", "tiny", "cam.pth.pth")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "a CAM"
    number = len(state) - 3
    assert printed[2].startswith(f"matched                 {number:6}  encoder.stem.0.weight, ")
    assert printed[2].endswith(", ...")
    assert printed[3:8] == [
        "missing in the file          0",
        "unexpected in the file       0",
        "left out, not needed         3  copy.0, copy.1, copy.2",
        "initial values               0",
        "of another shape             0",
    ]
    assert printed[9:] == [
        "written: cam.safetensors",
        "validate, test and predict take it as --ckpt_path cam.safetensors, with",
        "model:",
        "  class_path: fbr_plugin.baselines.CAM",
        '  init_args: {"num_classes": 2, "encoder": "small"}',
    ]
    with safe_open("cam.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["kind"] == "tiny"
    assert metadata["source"] == "cam.pth.pth"
    assert metadata["sha256"] == hashlib.sha256(Path("cam.pth.pth").read_bytes()).hexdigest()
    assert json.loads(metadata["model"])["init_args"] == {"num_classes": 2, "encoder": "small"}
    written = load_file("cam.safetensors")
    assert torch.equal(written["head.weight"], state["fc.weight"])
    assert written.keys() == CAM(2, encoder="small").state_dict().keys()


@pytest.mark.parametrize("form", ["plain", "model", "legacy", "safetensors", "nested"])
def test_forms_of_files(form: str) -> None:
    state, path = released(), "cam.safetensors" if form == "safetensors" else "cam.pth.tar"
    if form == "safetensors":
        save_file(state, path)
    elif form == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        wrapped = {"model": state, "best_thr": 0.1, "epoch": 7}
        torch.save({"plain": state, "model": wrapped, "nested": {"state_dict": wrapped}}[form], path)
    command("import-weights", "tiny", path, "--output", "out/cam.safetensors")
    assert torch.equal(load_file("out/cam.safetensors")["head.weight"], state["fc.weight"])
    assert [each.name for each in Path("out").iterdir()] == ["cam.safetensors"]


@pytest.fixture
def imported() -> str:
    """An imported CAM of 2 classes."""
    torch.save(released(), "cam.pth")
    command("import-weights", "tiny", "cam.pth")
    return "cam.safetensors"


def test_commands_take_the_file_as_a_checkpoint(imported: str, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(Path("photos"))
    data = ["--data", "fbr_plugin.data.FolderDataModule", "--data.root", photos]
    words = [
        "--model",
        "fbr_plugin.baselines.CAM",
        "--model.num_classes",
        2,
        "--model.scales",
        "[1.0]",
        *data,
    ]
    (read,) = [read_checkpoint(imported)]
    assert read["hyper_parameters"]["_class_path"] == "fbr_plugin.baselines.CAM"
    quiet = quick(1)
    command("test", *words, *quiet, "--ckpt_path", imported)  # of the file's encoder, and not of resnet50
    assert "miou_oracle" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"cam.safetensors has weights alone, .* give --model.weights"):
        command("fit", *words, *quiet, "--ckpt_path", imported)
    words[3] = 3
    with pytest.raises(
        ValueError, match=r"cam.safetensors is of 2 classes, but --model.num_classes is 3: leave that out"
    ):
        command("test", *words, *quiet, "--ckpt_path", imported)


def test_the_file_in_the_place_of_other_weights(imported: str) -> None:
    """Its encoder starts another network, and its maps join the seeds of BAS."""
    expected = released()
    encoder: Any = build_encoder("small", weights=imported)
    assert torch.equal(encoder.stem[0].weight, expected["body.stem.0.weight"])
    cam = TrainedCAM(imported, 2)
    assert torch.equal(cam.network.head.weight, expected["fc.weight"])


def test_an_encoder_alone(capsys: pytest.CaptureFixture[str]) -> None:
    state = {f"trunk.{name}": value for name, value in build_encoder("small").state_dict().items()}  # type: ignore[attr-defined]
    torch.save(state, "trunk.pth")
    command("import-weights", "tiny_encoder", "trunk.pth")
    shown = 'model:\n  init_args: {"encoder": "small", "weights": "trunk.safetensors"}\n'
    assert capsys.readouterr().out.endswith(f"written: trunk.safetensors\n{shown}")
    encoder: Any = build_encoder("small", weights="trunk.safetensors")
    assert torch.equal(encoder.stem[0].weight, state["trunk.stem.0.weight"])
    with pytest.raises(ValueError, match=r"trunk.safetensors has weights, but not the settings of a network"):
        read_checkpoint("trunk.safetensors")


def test_a_tensor_with_two_names(capsys: pytest.CaptureFixture[str]) -> None:
    """The projection that PPC and FBR share is stored under both, and loaded as one."""
    source = PPCFBR(2, **dict(KINDS["tiny_ppc"].settings))
    state = {name.replace("head.projection", "proj"): value for name, value in source.state_dict().items()}
    kept = {name: value for name, value in state.items() if not name.startswith(("noise", "fbr.heads.foreg"))}
    torch.save(kept, "ppc.pth")
    command("import-weights", "tiny_ppc", "ppc.pth")
    assert "missing in the file          0" in capsys.readouterr().out
    written = load_file("ppc.safetensors")
    assert torch.equal(written["fbr.heads.foreground"], written["head.projection.weight"])
    assert torch.equal(written["head.projection.weight"], state["proj.weight"])
    read = read_checkpoint("ppc.safetensors")
    settings = {name: value for name, value in read["hyper_parameters"].items() if name[0] != "_"}
    loaded = PPCFBR(**settings)
    loaded.load_state_dict(read["state_dict"])
    assert loaded.fbr is not None
    assert loaded.fbr.heads.foreground is loaded.head.projection.weight
    assert loaded.fbr.config.bank_size == 70
    assert loaded.fbr.config.weight_bg == 0.01  # of PPC's preset, as the rest of the settings


def test_settings_of_the_file_join_those_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields that the file does not name stay as they are parsed."""
    parsed = Namespace(
        fbr=Namespace(bank_size=5, dim=64, weight_bg=0.3), scales=[1.0], num_classes=9, weights="FILE"
    )
    model = Namespace(class_path="fbr_plugin.baselines.PPCFBR", init_args=parsed)
    saved = {"_class_path": model.class_path, "num_classes": 2, "fbr": {"bank_size": 70, "dim": 32}}
    content = {"hyper_parameters": saved, "pytorch-lightning_version": "2.6.0"}
    monkeypatch.setattr(checkpoint_settings, "read_checkpoint", lambda *_, **__: content)
    found = checkpoint_settings.checkpoint_settings("FILE", model, {"fbr.dim"}, False)
    assert found == {
        "num_classes": 2,
        "fbr": {"bank_size": 70, "dim": 64, "weight_bg": 0.3},
        "weights": None,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fc__weight": None},
            r"cam.pth is no checkpoint of the kind tiny; 1 tensors are missing, head.weight$",
        ),
        (
            {"body__stem__0__weight": torch.zeros(24, 3, 3, 3)},
            r"1 shapes disagree, encoder.stem.0.weight: \[24, 3, 3, 3\] in the file, \[24, 3, 5, 5\] here$",
        ),
    ],
)
def test_files_that_do_not_fit(changes: dict[str, Tensor], message: str) -> None:
    torch.save(released(**changes), "cam.pth")
    assert re.search(message, fails("tiny", "cam.pth"))
    assert not Path("cam.safetensors").exists()


def test_the_kind_that_fits_is_suggested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: value for name, value in released().items() if not name.startswith("copy")}
    torch.save(state, "cam.pth")
    assert re.match(
        r"cam.pth is no checkpoint of the kind amn: it has all that the kind tiny needs; \d+ tensors are "
        r"missing, encoder.conv1.weight, encoder.bn1.weight, encoder.bn1.bias, \.\.\.$",
        fails("amn", "cam.pth"),
    )
    part = Kind("a part", None, {r"body\.(.+)": r"\1"}, SMALL)
    monkeypatch.setitem(KINDS, "part", part)
    command("import-weights", "part", "cam.pth")
    printed = capsys.readouterr().out
    assert "unexpected in the file       1  fc.weight\n" in printed
    assert "the unexpected names are known: it has all that the kind tiny needs\n" in printed
    assert Path("cam.safetensors").exists()


class Own:
    """An object that a checkpoint may hold."""


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    state = released()
    torch.save(state, "cam.pth")
    assert re.match(
        r"unknown kind 'tine'; did you mean tiny.*\? It may be cam, amn, .*", fails("tine", "cam.pth")
    )
    assert fails("tiny", "gone.pth") == "gone.pth does not exist: give the file that you downloaded"
    torch.save({"state_dict": state, "options": Own()}, "own.pth")
    assert re.match(
        r"own.pth holds an object of .*Own, which could run code, and is not read. If you trust the file, "
        r"save its tensors alone, and import those: python -c ",
        fails("tiny", "own.pth"),
    )
    Path("page.pth").write_text("<!DOCTYPE html><title>Google Drive</title>")
    Path("half.pth").write_bytes(Path("cam.pth").read_bytes()[:5000])
    Path("half.safetensors").write_bytes(b"12345")
    for name in ("page.pth", "half.pth", "half.safetensors"):
        assert fails("tiny", name, "--output", "out.safetensors") == (
            f"{name} is damaged or not a checkpoint of torch or safetensors: download it again"
        )
    torch.save([1, 2], "list.pth")
    assert re.match(
        r"list.pth has no tensors by name: give a state dict, or .*'state_dict' or 'model'$",
        fails("tiny", "list.pth"),
    )
    save_file(state, "cam.safetensors")
    assert re.match(
        r"the result would take the place of cam.safetensors: give --output", fails("tiny", "cam.safetensors")
    )
    assert re.match(
        r"--output cam.bin must end with .safetensors", fails("tiny", "cam.pth", "--output", "cam.bin")
    )
    monkeypatch.setattr(sys, "argv", ["fbr-plugin", "import-weights", "tiny", "gone.pth"])
    with pytest.raises(
        SystemExit, match=r"^error: gone.pth does not exist: give the file that you downloaded$"
    ):
        main()
    Path("bad.safetensors").write_bytes(b"12345")
    with pytest.raises(ValueError, match=r"bad.safetensors is damaged or not a checkpoint"):
        read_checkpoint("bad.safetensors")
    with pytest.raises(FileNotFoundError):
        read_checkpoint("gone.safetensors")


def test_help_lists_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("import-weights", "--help")
    printed = " ".join(capsys.readouterr().out.split())
    assert "KIND what the file is: cam, amn, irn, fbr_amn" in printed
