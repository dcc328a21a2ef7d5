"""What determines a run: data, settings, versions, seed and command."""

import os
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer

from fbr_plugin.contract import NamedClasses
from fbr_plugin.data.datamodules.base import WSSSDataModule, running_data
from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.fingerprint import fingerprint

PACKAGES = ("fbr_plugin", "torch", "pytorch-lightning", "numpy", "wandb")


def describe(trainer: Trainer, folder: str | None, stages: Sequence[Stage]) -> dict[str, Any]:
    """What determines a run, in types that JSON can hold.

    Args:
        trainer: of the run.
        folder: of the run; its `config.yaml`, which the command line writes, has all settings.
        stages: of the data module, whose images are listed with the hashes of `fingerprint`.
    """
    settings = Path(folder or "") / "config.yaml"
    known: dict[str, Any] = yaml.safe_load(settings.read_text()) if settings.is_file() else {}
    run = {
        "max_steps": trainer.max_steps,
        "max_epochs": trainer.max_epochs,
        "precision": trainer.precision,
        "devices": trainer.num_devices * trainer.num_nodes,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }
    known["trainer"] = {**known.get("trainer", {}), **run}
    known["seed"] = int(os.environ.get("PL_GLOBAL_SEED", 0))
    known["command"] = shlex.join(sys.argv)
    known["versions"] = {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}}
    data = running_data(trainer)
    known["data"] = {"class_path": type(data).__name__, **known.get("data", {})}
    if isinstance(data, NamedClasses):
        known["data"]["classes"] = list(data.class_names)
    if isinstance(data, WSSSDataModule):
        for stage in stages:
            source = data.dataset(stage).source
            known[f"data_{stage}"] = {"images": len(source.ids), "sha256": fingerprint(source)}
    return known
