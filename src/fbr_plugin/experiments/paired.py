"""Paired trainings: the arms of a baseline, from one classifier and initialisation."""

import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from fbr_plugin.baselines import CAM
from fbr_plugin.callbacks.ends.sigterm import EndAtSigterm
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data import Augmentation, FolderDataModule, Lists, Loading, SyntheticDataModule
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.fingerprint import fingerprint
from fbr_plugin.errors import InputError
from fbr_plugin.experiments.arms import BASELINES, arms
from fbr_plugin.experiments.pictures import draw_arms
from fbr_plugin.experiments.recipes import recipe
from fbr_plugin.experiments.recorder import Recorder
from fbr_plugin.experiments.results import cached, known

LABEL_THRESHOLDS = (0.35, 0.10)


def check_settings(settings: dict[str, Any]) -> None:
    """Raise before any training if there are no steps to train, or no masks to score with."""
    for name in ("cam_steps", "steps"):
        if settings[name] < 1:
            raise InputError(f"--{name} must be at least 1, got {settings[name]}")
    if "mask" not in data_module(0, settings).dataset("test")[0]:
        raise InputError(
            f"the demo scores seeds, and {settings['data']} has no masks in SegmentationClass: add some, or "
            "see `fbr-plugin pipeline`, which needs none"
        )


def cached_seed(seed: int, settings: dict[str, Any], output: Path, draw: bool) -> dict[str, Any]:
    """The results of one seed, from its file if that has the same settings."""
    folder = output / f"seed_{seed}"
    path = folder / "metrics.json"
    fbr = {
        name: {field: asdict(value) for field, value in own.items()}
        for name, (_, own) in arms(settings["baseline"]).items()
    }
    key = {**settings, "arms": fbr}
    if settings["data"] is not None:
        key["files"] = fingerprint(data_module(seed, settings).dataset("test").source)
    if known(path, key):
        print(f"seed {seed}: read from {path} (delete it to compute it again)")
    elif path.exists():
        warnings.warn(
            f"{path} is of other settings or photos: its results are replaced; to keep both, give another "
            "--output",
            stacklevel=2,
        )
    return cached(path, key, lambda: run_seed(seed, settings, folder, output if draw else folder))


def run_seed(seed: int, settings: dict[str, Any], folder: Path, figure_folder: Path) -> dict[str, Any]:
    """Train and score the CAM and every arm of the baseline, and plot."""
    common: dict[str, Any] = {"encoder": settings["encoder"], "scales": (1.0,)}
    if settings["encoder"] != "small":
        common["output_stride"] = 8
    cam_optimizer, optimizer, *_ = recipe(settings["weights"] is not None)
    module = data_module(seed, settings)
    pl.seed_everything(seed, verbose=False)
    cam = CAM(module.num_classes, **{**common, "optimizer": cam_optimizer, "weights": settings["weights"]})
    print(f"seed {seed}: CAM")
    scores, recorders, seconds = {}, {}, {}
    trainer, seconds["CAM"], recorders["CAM"] = fit(cam, module, settings["cam_steps"], folder)
    checkpoint = folder / "cam.ckpt"
    trainer.save_checkpoint(checkpoint)
    scores["CAM"] = score(trainer, cam, module)
    writer = SeedWriter(folder / "labels", thresholds=LABEL_THRESHOLDS)
    trainer.callbacks.append(writer)  # type: ignore[attr-defined]
    trainer.predict(cam, module, return_predictions=False)

    module = data_module(seed, settings, folder / "labels")
    models: dict[str, Any] = {"CAM": cam}
    *_, small_images = BASELINES[settings["baseline"]]
    options = {"weights": str(checkpoint), "optimizer": optimizer, **common, **small_images}
    for name, (network, fbr) in arms(settings["baseline"]).items():
        pl.seed_everything(seed, verbose=False)
        models[name] = network(module.num_classes, **options, **fbr)
        print(f"seed {seed}: {name}")
        trainer, seconds[name], recorders[name] = fit(models[name], module, settings["steps"], folder)
        scores[name] = score(trainer, models[name], module)
    # The 10th percentile: other processes on the machine slow down single steps.
    step = {name: sorted(recorder.times)[len(recorder.times) // 10] for name, recorder in recorders.items()}
    _, baseline, *with_fbr = models
    for name, own in scores.items():
        share = 100 * (1 - step[baseline] / step[name]) if name in with_fbr else None
        own |= {"seconds": seconds[name], "seconds_per_step": step[name], "step_share": share}
    draw_arms(models, recorders, scores, module, figure_folder)
    return {"seed": seed, "class_names": module.class_names, "scores": scores}


def data_module(seed: int, settings: dict[str, Any], labels: Path | None = None) -> WSSSDataModule:
    """The scenes, or your own photos, whose seeds are scored on the training set itself."""
    size, folder = settings["size"], settings["data"]
    crop = settings.get("crop") or size
    if folder is None:
        loading = Loading(eval_batch_size=50, seed=seed)
        return SyntheticDataModule(settings["preset"], size=size, pseudo_label_dir=labels, loading=loading)
    longest = size if crop < size else size * 5 // 4  # crops as large as the photo vary by its scale
    module = FolderDataModule(
        folder,
        Lists(val="train"),
        augmentation=Augmentation(crop, long_side=(size, longest)),
        max_size=size,
        pseudo_label_dir=labels,
        stuff_dir="StuffClass" if (Path(folder) / "stuff.txt").exists() else None,
    )
    batch_size = min(module.loading.batch_size, len(module.ids("fit")))
    module.loading = Loading(batch_size, seed=seed)
    return module


def fit(model: Any, module: WSSSDataModule, steps: int, folder: Path) -> tuple[pl.Trainer, float, Recorder]:
    """Train a model; return the trainer, the seconds that it took, and the recorder."""
    recorder = Recorder()
    trainer = pl.Trainer(
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[recorder, EndAtSigterm(), TQDMProgressBar(refresh_rate=10)],
        default_root_dir=folder,
        devices=1,
    )
    start = time.perf_counter()
    trainer.fit(model, module)
    return trainer, time.perf_counter() - start, recorder


def score(trainer: pl.Trainer, model: Any, module: WSSSDataModule) -> dict[str, Any]:
    """The scores of the training images' seeds, with the whole threshold sweep."""
    (logged,) = trainer.test(model, module, verbose=False)
    sweep = model.scores.sweep.compute()
    figures_of_arm = {name.removeprefix("test/"): value for name, value in logged.items()}
    return {**figures_of_arm, "thresholds": sweep.thresholds, "miou_sweep": sweep.miou}
