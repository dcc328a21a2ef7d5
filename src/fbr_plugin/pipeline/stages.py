"""Actions of the pipeline's stages: train, predict and score in a folder, and resume after interruptions."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger
from torch.utils.data import Subset
from tqdm import tqdm

from fbr_plugin import figures
from fbr_plugin.callbacks.checkpoints import save_whole
from fbr_plugin.callbacks.ends.interruption import InterruptionCheckpoint, TimedCheckpoint
from fbr_plugin.callbacks.ends.nonfinite_steps import NonFiniteSteps
from fbr_plugin.callbacks.ends.sigterm import EndAtSigterm
from fbr_plugin.callbacks.exact_resume import ExactResume
from fbr_plugin.callbacks.fbr_figures import FBRFigures
from fbr_plugin.callbacks.loggers.guard import guard
from fbr_plugin.callbacks.loggers.wandb_run import WandbRun
from fbr_plugin.callbacks.score_figures import ScoreFigures
from fbr_plugin.callbacks.seed_calibrator import SeedCalibrator
from fbr_plugin.contract import ScorePropagator
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.readers.images import read_mask
from fbr_plugin.data.sources import Source
from fbr_plugin.distributed import all_gather_object, barrier, collective_device, is_rank_zero, shard
from fbr_plugin.figures.choice import quantile_rows
from fbr_plugin.metrics import CalibrationResult, SegmentationScore
from fbr_plugin.metrics.segmentation import image_iou
from fbr_plugin.pipeline.record import CURVES
from fbr_plugin.training.mixin import FBRMixin

CHECKPOINT = "model.ckpt"
SAVE_EVERY = timedelta(minutes=2)


def fit(folder: Path, model: pl.LightningModule, data: WSSSDataModule, flags: Mapping[str, Any]) -> None:
    """Train a model; the folder gets its weights as `model.ckpt` and its curves in `curves`.

    Args:
        folder: folder of the stage; the checkpoint of an interrupted call is resumed exactly.
        model: the model to train.
        data: its training images.
        flags: arguments of `pytorch_lightning.Trainer`.
    """
    if (folder / CHECKPOINT).exists():
        return
    begun = folder / "begun" / "last.ckpt"
    saver = TimedCheckpoint(
        begun.parent, begun.stem, train_time_interval=SAVE_EVERY, enable_version_counter=False
    )
    interruption = InterruptionCheckpoint(begun, "start the same command again to continue")
    added: list[pl.Callback] = [] if isinstance(model, FBRMixin) else [ExactResume()]  # the mixin has its own
    if not any(isinstance(each, NonFiniteSteps) for each in flags.get("callbacks") or []):
        added.append(NonFiniteSteps())
    given = flags.get("logger")
    loggers = given if isinstance(given, list) else [given] if isinstance(given, Logger) else []
    shown = [FBRFigures(), ScoreFigures(), WandbRun()] if loggers else []
    every = {**flags, "logger": [CSVLogger(folder, name=CURVES), *loggers]}
    trainer = _trainer(folder, every, saver, interruption, *added, *shown)
    trainer.fit(model, data, ckpt_path=str(begun) if begun.exists() else None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.save_checkpoint(folder / CHECKPOINT, weights_only=True)
    if is_rank_zero():
        shutil.rmtree(begun.parent, ignore_errors=True)
    interruption.finish()


def test(
    folder: Path, model: pl.LightningModule, data: WSSSDataModule, flags: Mapping[str, Any]
) -> dict[str, float]:
    """The scores of a trained model on the test images; none if these have no masks."""
    if not has_masks(data):
        return {}
    trainer = _trainer(folder, flags)
    (logged,) = trainer.test(model, data, ckpt_path=str(folder / CHECKPOINT), verbose=False)
    return {name.removeprefix("test/"): value for name, value in logged.items()}


def has_masks(data: WSSSDataModule) -> bool:
    """Whether the test images have masks."""
    return "mask" in data.dataset("test").source[0]


def predict(
    checkpoint: Path,
    model: pl.LightningModule,
    data: WSSSDataModule,
    flags: Mapping[str, Any],
    writers: Sequence[pl.Callback],
    written: Path,
    stage: Stage = "predict",
) -> None:
    """Predict with a trained model and callbacks that write files, except for images already written.

    Args:
        checkpoint: weights of the model.
        model: the model.
        data: its images.
        flags: arguments of `pytorch_lightning.Trainer`.
        writers: each writes one file for each image.
        written: folder of the last of them, in which a file with an image's name marks it as done.
        stage: the stage whose images to predict.
    """
    dataset = data.dataset(stage)
    done = {path.stem for path in written.glob("[!.]*.[jnp]*")} if written.is_dir() else set()
    pending = [index for index, name in enumerate(dataset.source.ids) if name not in done]
    barrier()  # before any process writes
    if pending:
        loader = data.loader(Subset(dataset, pending), data.loading.eval_batch_size)
        trainer = _trainer(written.parent, flags, *writers)
        trainer.predict(model, loader, ckpt_path=str(checkpoint), return_predictions=False)
    barrier()


def calibrate(
    folder: Path,
    checkpoint: Path,
    model: pl.LightningModule,
    data: WSSSDataModule,
    flags: Mapping[str, Any],
    walk: ScorePropagator | None,
    power: float,
) -> CalibrationResult:
    """Choose the threshold of a trained model's seeds with the masks of the calibration list.

    Args:
        folder: folder of the stage.
        checkpoint: weights of the model.
        model: the model.
        data: its images.
        flags: arguments of `pytorch_lightning.Trainer`.
        walk: spreads the seeds first, as in masks; None leaves them unchanged.
        power: to which the seeds are raised before.
    """
    images = data.calibration()
    calibrator = SeedCalibrator(images.source, walk, power)
    loader = data.loader(images, data.loading.eval_batch_size)
    trainer = _trainer(folder, flags, calibrator)
    trainer.predict(model, loader, ckpt_path=str(checkpoint), return_predictions=False)
    return calibrator.result()


def score_masks(
    folders: Mapping[str, Path], data: WSSSDataModule
) -> tuple[dict[str, float], dict[int, float]]:
    """The mIoU in percent of folders of masks `ID.png`, over those test images that they hold.

    Args:
        folders: the folders by the name of their score.
        data: the data module; without true masks of these images, there is no score.

    Returns:
        The scores, and for each image, by its index, the IoU in percent of its mask in the last folder.
    """
    source = data.dataset("test").source
    known = _known(folders, source)
    scores = {name: SegmentationScore(data.num_classes) for name in folders}
    ious = {}
    for index in tqdm(shard(known), "score masks", disable=None, leave=False):
        item = source[index]
        truth = torch.from_numpy(item["mask"])
        for score, mask in zip(scores.values(), _read(folders, item["id"], source.num_classes), strict=True):
            score.update(labels := torch.from_numpy(mask), truth)
        ious[index] = image_iou(score.count(labels, truth))
    found = {index: value for own in all_gather_object(ious) for index, value in own.items()}
    miou = {name: score.to(collective_device()).compute().miou for name, score in scores.items() if known}
    return miou, dict(sorted(found.items()))


def draw_masks(
    folders: Mapping[str, Path], data: WSSSDataModule, ious: Mapping[int, float], path: Path
) -> None:
    """Plot test images at evenly spaced quantiles of their IoU, with their true and predicted masks.

    Args:
        folders: folders of masks by the title of their column.
        data: the data module.
        ious: the IoU of each image in the last folder, by its index; without any, nothing is plotted.
        path: file to write.
    """
    source, known = data.dataset("test").source, list(ious)
    items = [source[known[row]] for row in quantile_rows(list(ious.values()), figures.MAX_ROWS)]
    if items and is_rank_zero():
        photos = [torch.from_numpy(item["image"]).permute(2, 0, 1) / 255 for item in items]
        truths = [torch.from_numpy(item["mask"]) for item in items]
        rows = [map(torch.from_numpy, _read(folders, item["id"], source.num_classes)) for item in items]
        maps = dict(zip(folders, zip(*rows, strict=True), strict=True))
        *_, last = folders
        rule = f"Images at evenly spaced quantiles of the IoU of {last!r}, lowest first."
        figures.save(figures.examples(photos, truths, maps, data.class_names, note=rule), path)


def _known(folders: Mapping[str, Path], source: Source) -> list[int]:
    """The items of a source with masks in the folders; none if the source has no true masks."""
    first = next(iter(folders.values()))
    known = [index for index, name in enumerate(source.ids) if (first / f"{name}.png").exists()]
    return known if known and "mask" in source[known[0]] else []


def _read(folders: Mapping[str, Path], name: str, num_classes: int) -> list[NDArray[np.uint8]]:
    """Read an image's mask [H, W] from each of the folders."""
    return [read_mask(folder / f"{name}.png", num_classes) for folder in folders.values()]


def _trainer(folder: Path, flags: Mapping[str, Any], *callbacks: pl.Callback) -> pl.Trainer:
    own = flags.get("callbacks") or []
    options = {
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "enable_model_summary": False,
        "default_root_dir": folder,
        **flags,
        "callbacks": [*own, EndAtSigterm(), *callbacks],
    }
    return save_whole(guard(pl.Trainer(**options)))
