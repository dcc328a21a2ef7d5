"""Checkpoints that are written whole or not at all, and errors that name an unreadable one."""

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import pytorch_lightning as pl
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
from safetensors import SafetensorError, safe_open

from fbr_plugin.errors import DiskFullError, InputError, short
from fbr_plugin.files import replacing

COUNTERS = ("epoch", "loops")


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint I/O that writes files whole or not at all, and names a file that it cannot read.

    Lightning's own writer copies a temporary file from another file system onto the checkpoint. A run killed
    in the meantime leaves half a file, and the previous checkpoint is lost.

    Of weights alone, from which no training continues, Lightning's counters are left out. They depend on
    interruptions, and so would the hash of the file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a temporary file beside the checkpoint, then rename it."""
        if "optimizer_states" not in checkpoint:
            checkpoint = {name: checkpoint[name] for name in checkpoint if name not in COUNTERS}
        if storage_options is not None or "://" in str(path):  # not a local file
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing(path) as partial, partial.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's error, which hides the system's, e.g. of a full disk
                if not isinstance(error.__context__, OSError):
                    raise
                raise DiskFullError(*error.__context__.args, str(path)) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint as Lightning does."""
        return read_checkpoint(path, super().load_checkpoint, *args, **kwargs)


def read_checkpoint(
    path: str | Path, read: Callable[..., Any] = torch.load, *args: Any, **kwargs: Any
) -> dict[str, Any]:
    """The content of a checkpoint, or of a file that `fbr-plugin import-weights` wrote.

    Args:
        path: the file.
        read: reads a checkpoint.
        args: further arguments of `read`.
        kwargs: further arguments of `read`.

    Raises:
        OSError: the file is missing or cannot be opened.
        ValueError: the file is damaged or not a checkpoint.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: name the checkpoint in it")
    if Path(path).suffix == ".safetensors":
        return _read_imported(path)
    try:
        check_archive(path)
        content = read(path, *args, **kwargs)
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # from a seek in a truncated file
            raise
        if isinstance(error, UnpicklingError) and _is_archive(path):
            refused = re.search(r"GLOBAL (\S+)", str(error))
            raise InputError(
                f"{path} holds objects that are not loaded, since this would run their code"
                f"{f', such as {short(refused[1])}' if refused else ''}: give a checkpoint that `fit` wrote"
            ) from error
        raise InputError(_unreadable(path)) from error
    if not isinstance(content, dict):
        raise InputError(_unreadable(path))
    if not isinstance(content.get("hyper_parameters", {}), dict):
        raise InputError(_unreadable(path))
    if not isinstance(content.get("state_dict"), dict):
        raise InputError(
            f"{path} is no checkpoint, as it has no 'state_dict': give one that `fit` wrote; weights alone "
            "go to --model.weights, or through `fbr-plugin import-weights`"
        )
    return content


def _is_archive(path: str | Path) -> bool:
    """Whether a file begins as a zip archive; `zipfile.is_zipfile` raises for some that are damaged."""
    with Path(path).open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def check_archive(path: str | Path) -> None:
    """Raise for a zip archive that unpacks to more than its size; torch does not compress."""
    try:
        with ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, NotImplementedError, OSError, ValueError):  # the older format, or a damaged file
        return
    if size > Path(path).stat().st_size:
        raise InputError(
            f"{path} has {Path(path).stat().st_size} bytes, which unpack to {size}: torch saves checkpoints "
            "uncompressed; give the original file"
        )


def _read_imported(path: str | Path) -> dict[str, Any]:
    """Weights and settings of a network, as a checkpoint without the state of a training."""
    try:
        with safe_open(path, "pt") as file:
            settings = (file.metadata() or {}).get("model")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except SafetensorError as error:
        raise InputError(_unreadable(path)) from error
    if settings is None:
        raise InputError(
            f"{path} has weights, but not the settings of a network: give the weights of an encoder as "
            "--model.weights, and those of a whole network as `fbr-plugin import-weights` writes them"
        )
    try:
        model = json.loads(settings)
        known = {"_class_path": model["class_path"], **model["init_args"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} has settings of a network that cannot be read: write it again by `fbr-plugin "
            "import-weights`"
        ) from error
    return {
        "state_dict": state,
        "hyper_parameters": known,
        "pytorch-lightning_version": pl.__version__,
    }


def save_whole(trainer: Trainer) -> Trainer:
    """Make a trainer use `WholeCheckpoints`, unless it was given another checkpoint I/O."""
    given = trainer.strategy.checkpoint_io
    if type(given) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpoints()
    elif isinstance(given, AsyncCheckpointIO) and type(given.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AsyncCheckpointIO(WholeCheckpoints())
    return trainer


def _unreadable(path: str | Path) -> str:
    return (
        f"{path} is damaged or not a checkpoint: give another one; if a pipeline saved it, delete it, and "
        "its stage starts again"
    )
