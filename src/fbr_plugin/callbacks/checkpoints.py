"""Checkpoints written whole or not at all, and an error that names the one that cannot be read."""

import errno
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from fbr_plugin.errors import DiskFullError, InputError
from fbr_plugin.files import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and names one that it cannot read.

    Lightning's own writer copies a temporary file of another file system onto the checkpoint: a run that is
    killed meanwhile leaves half a file, and loses the one that was there.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write beside the file, then take its place."""
        if storage_options is not None or "://" in str(path):  # not a file of this machine
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing(path) as partial, partial.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's own, in place of the system's, say of a full disk
                if not isinstance(error.__context__, OSError):
                    raise
                raise DiskFullError(*error.__context__.args, str(path)) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint as Lightning does."""
        return read_checkpoint(path, super().load_checkpoint, *args, **kwargs)


def read_checkpoint(
    path: str | Path, read: Callable[..., Any] = torch.load, *args: Any, **kwargs: Any
) -> dict[str, Any]:
    """The content of a checkpoint.

    Args:
        path: the file.
        read: reads it.
        args: further arguments of `read`.
        kwargs: further arguments of `read`.

    Raises:
        OSError: the file is missing, among others.
        ValueError: the file is damaged, or no checkpoint.
    """
    try:
        content = read(path, *args, **kwargs)
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a seek, in a file that is cut
            raise
        if isinstance(error, UnpicklingError) and is_zipfile(path):
            raise  # a whole file with objects that torch refuses; it says which
        raise InputError(_unreadable(path)) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise InputError(_unreadable(path))
    return content


def save_whole(trainer: Trainer) -> Trainer:
    """Have a trainer read and write by `WholeCheckpoints`, unless it was given a way of another kind."""
    given = trainer.strategy.checkpoint_io
    if type(given) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpoints()
    elif isinstance(given, AsyncCheckpointIO) and type(given.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AsyncCheckpointIO(WholeCheckpoints())
    return trainer


def _unreadable(path: str | Path) -> str:
    return (
        f"{path} is damaged, or no checkpoint: give another one; where a pipeline saved it, delete it, and "
        "its stage begins anew"
    )
