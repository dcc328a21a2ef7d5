"""Seeds of CAM and AMN at several scales with mirror images, from the photos to files."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils.data import Subset

from benchmarks.recipe_cost.networks import Size
from benchmarks.speed.photos import integer_labels, write_voc
from benchmarks.speed.timing import Case, DisagreementError, need
from benchmarks.speed.training import network, quiet_trainer, take_weights
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data import VOCDataModule
from fbr_plugin.data.settings import Lists

SCALES = (1.0, 0.5, 1.5, 2.0)
MEAN_DIFFERENCE = 0.05  # of scores in [0, 1]; the photos are resized by other filters


def seeds(root: Path, kind: str, size: Size, theirs: bool = True) -> Case:
    """One photo, by "cam" or "amn"."""
    names = write_voc(root, 1, size)
    ours = network("voc/amn", "classifier" if kind == "cam" else "baseline").eval()
    labels: dict[str, Any] = {"pseudo_label_dir": root / "labels"} if kind == "amn" else {}
    data = VOCDataModule(root, Lists("train", "train"), **labels)
    writer = SeedWriter(root / "ours")
    trainer = quiet_trainer(callbacks=[writer])

    def predict() -> Path:
        trainer.predict(ours, data, return_predictions=False)
        return root / "ours" / f"{names[0]}.npy"

    released: Callable[[], Path] | None = None
    if theirs:
        need("imageio")
        module, step = (
            importlib.import_module(name)
            for name in (
                ("net.resnet50_cam", "step.make_cam")
                if kind == "cam"
                else ("net.resnet50_amn", "step.make_amn_cam")
            )
        )
        net = module.CAM()
        net.eval()
        take_weights(ours, kind, net)
        loader: Any = importlib.import_module("voc12.dataloader")
        loader.cls_labels_dict = integer_labels(names)
        twice = root / "integers.txt"  # of one line, the released code reads no list
        twice.write_text(2 * f"{twice.read_text()}\n")
        photos = loader.VOC12ClassificationDatasetMSF(twice, voc12_root=str(root), scales=SCALES)
        (root / "theirs").mkdir()
        out = str(root / "theirs")
        args = SimpleNamespace(
            num_workers=0, cam_out_dir=out, amn_cam_out_dir=out, ir_label_out_dir=str(root / "labels")
        )
        if kind == "amn":  # eval() does not reach the released dropout, which would make the seeds random
            net.classifier[0].p = 0.0

        def released() -> Path:
            with patch.object(torch.cuda, "device_count", lambda: 2):  # of a share of the photos
                step._work(0, net, [Subset(photos, [0])], args)
            return Path(out, f"{names[0]}.npy")

    text = f"ResNet-50, a photo of {size[1]}x{size[0]}, scales .5 to 2 with mirror images, to a file"
    return Case(predict, released, _compare, text)


def _compare(ours: Path, released: Path) -> str:
    one, other = (np.load(path, allow_pickle=True).item()["high_res"] for path in (ours, released))
    difference = float(np.abs(one - other).mean()) if one.shape == other.shape else np.inf
    if not difference <= MEAN_DIFFERENCE:
        raise DisagreementError(f"the seeds of shapes {one.shape}, {other.shape} differ by {difference:.2g}")
    return f"mean difference of the scores {difference:.0e} (other filter for the scales)"
