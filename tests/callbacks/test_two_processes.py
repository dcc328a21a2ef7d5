"""Scores and files of two processes: every image counts once, also where their number is odd."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.processes import launch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import TorchElasticEnvironment

from fbr_plugin.baselines import CAMFBR
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data import Loading, SyntheticDataModule
from fbr_plugin.training.fbr_maps import FBRMaps

IMAGES = 5


class Watched(SeedWriter):
    """Keeps the names of what it writes."""

    written: list[str]

    def write_on_batch_end(self, trainer: Any, pl_module: Any, prediction: Any, *rest: Any) -> None:
        self.written = [*getattr(self, "written", []), *prediction.ids]
        super().write_on_batch_end(trainer, pl_module, prediction, *rest)


def scored(folder: Path, **options: Any) -> dict[str, Any]:
    """The figures of `validate` and `test`, and the names of the files that `predict` wrote."""
    torch.manual_seed(0)
    data = SyntheticDataModule(num_images=IMAGES, size=32, loading=Loading(eval_batch_size=2))
    parts = {"fbr": {"preset": "amn", "bank_size": 100}, "gate": {"enabled": True}}
    model, writer = (
        CAMFBR(data.num_classes, encoder="small", scales=[1.0], **parts),
        Watched(folder / "seeds"),
    )
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[writer, FBRMaps(folder)],
        **options,
    )
    figures = {"validate": trainer.validate(model, data, verbose=False)[0]}
    figures["test"] = trainer.test(model, data, verbose=False)[0]
    trainer.predict(model, data, return_predictions=False)
    return {"figures": figures, "written": writer.written}


def process(number: int, folder: Path) -> dict[str, Any]:
    """The same in one of two processes that torchrun would have started."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # the processes have met already
    return scored(folder, strategy="ddp", devices=2, plugins=[TorchElasticEnvironment()])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*class-aware gate")
def test_two_processes_score_and_write_every_image_once(tmp_path: Path) -> None:
    one = scored(tmp_path / "one")
    results = launch(partial(process, folder=tmp_path / "two"), tmp_path)
    for result in results:
        assert result["figures"] == one["figures"]
    assert one["figures"]["test"].keys() > {"test/miou_oracle"}
    assert sorted(results[0]["written"] + results[1]["written"]) == sorted(one["written"])
    assert all(result["written"] for result in results)
    for kind in ("seeds", "gate", "nroi"):
        files = [sorted(path.name for path in (tmp_path / name / kind).iterdir()) for name in ("one", "two")]
        assert files[0] == files[1]
        assert len(files[0]) == IMAGES
