"""Checkpoints are written whole or not at all, and one that cannot be read is named."""

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins import AsyncCheckpointIO, DoublePrecision, TorchCheckpointIO

from fbr_plugin.callbacks.checkpoints import WholeCheckpoints, read_checkpoint, save_whole

CONTENT = {"state_dict": {"weight": torch.arange(5000.0)}}


class Own(TorchCheckpointIO):
    """A user's way of writing."""


class Refused:
    """No tensor and no plain value."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint on the disk."""
    WholeCheckpoints().save_checkpoint(CONTENT, tmp_path / "new" / "a.ckpt")
    return tmp_path / "new" / "a.ckpt"


def trainer(**options: Any) -> Trainer:
    return save_whole(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options))


def test_what_is_written_is_read(checkpoint: Path) -> None:
    for read in (read_checkpoint, WholeCheckpoints().load_checkpoint, TorchCheckpointIO().load_checkpoint):
        assert torch.equal(read(checkpoint)["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert [path.name for path in checkpoint.parent.iterdir()] == ["a.ckpt"]


def test_weights_alone_have_no_counters_of_the_training(tmp_path: Path) -> None:
    counted = {**CONTENT, "epoch": 3, "loops": {"fit_loop": {}}, "global_step": 9}
    for name, further in (("weights", {}), ("training", {"optimizer_states": []})):
        WholeCheckpoints().save_checkpoint({**counted, **further}, tmp_path / name)
    kept = {name: read_checkpoint(tmp_path / name).keys() for name in ("weights", "training")}
    assert kept == {"weights": {"state_dict", "global_step"}, "training": {*counted, "optimizer_states"}}


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    before = checkpoint.read_bytes()

    def fail(content: Any, file: Any) -> None:
        file.write(b"half")
        try:
            raise failure
        finally:
            if isinstance(failure, OSError):
                raise RuntimeError("unexpected pos")  # as torch does

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(type(failure)) as raised:
        WholeCheckpoints().save_checkpoint(CONTENT, checkpoint)
    assert getattr(raised.value, "errno", errno.ENOSPC) == errno.ENOSPC
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:10],
        lambda content: b"",
        lambda content: bytes(range(7, 256)) * 40,
        lambda content: b"classes\nof\nthe data\n",
    ],
    ids=["end", "half", "start", "empty", "random", "text"],
)
def test_a_damaged_checkpoint_is_named(checkpoint: Path, damage: Callable[[bytes], bytes]) -> None:
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    for options in ({}, {"weights_only": False}):
        with pytest.raises(ValueError, match=r"a\.ckpt is damaged or not a checkpoint: give another one"):
            WholeCheckpoints().load_checkpoint(checkpoint, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], r"weights\.pt is damaged or not a checkpoint"),
        (
            {"weight": torch.zeros(1)},
            r"weights\.pt is no checkpoint, as it has no 'state_dict'",
        ),
    ],
)
def test_a_file_of_something_else_is_no_checkpoint(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))} is a folder: name the"):
        read_checkpoint(tmp_path)


def test_a_missing_checkpoint_and_one_with_refused_objects_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Checkpoint file not found: .*nowhere\.ckpt"):
        WholeCheckpoints().load_checkpoint(tmp_path / "nowhere.ckpt")
    torch.save({"state_dict": {}, "own": Refused()}, tmp_path / "own.ckpt")
    with pytest.raises(ValueError, match=r"own\.ckpt holds objects that are not loaded, .*\.Refused: give"):
        read_checkpoint(tmp_path / "own.ckpt")


@pytest.mark.parametrize("options", [{}, {"plugins": [DoublePrecision()]}, {"strategy": "ddp", "devices": 2}])
def test_any_trainer_writes_whole(options: dict[str, Any]) -> None:
    assert type(trainer(**options).strategy.checkpoint_io) is WholeCheckpoints


def test_a_way_of_writing_that_was_given_stays() -> None:
    assert type(trainer(plugins=Own()).strategy.checkpoint_io) is Own
    behind = trainer(plugins=AsyncCheckpointIO()).strategy.checkpoint_io
    assert isinstance(behind, AsyncCheckpointIO)
    assert type(behind.checkpoint_io) is WholeCheckpoints
