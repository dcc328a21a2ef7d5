"""One training run of a stage, paired by seed: the same data, initialisation and batches in every variant."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks.effect.labels import label_quality
from benchmarks.effect.variants import Variant
from fbr_plugin import functional
from fbr_plugin.baselines import AMN, AMNFBR, BAS, BASFBR, CAM, CAMFBR, PPC, PPCFBR
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.scenes.scene import PRESETS, ScenePreset
from fbr_plugin.experiments.paired import LABEL_THRESHOLDS, data_module
from fbr_plugin.experiments.recipes import FINE_TUNED_CROP, recipe
from fbr_plugin.experiments.results import cached

SCENES = {**PRESETS, "never": ScenePreset(p_co=0.85, p_stray=0.0, p_hide=0.15)}
COMMON: dict[str, Any] = {"scales": (1.0,)}
# The baseline, the same with FBR, and settings for small images.
STAGES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "cam": (CAM, CAMFBR, {}),
    "amn": (AMN, AMNFBR, {"rates": (1, 2, 4)}),
    "ppc": (PPC, PPCFBR, {"dropout": 0.0}),
    "bas": (BAS, BASFBR, {}),
}


@dataclass(frozen=True)
class Setting:
    """The settings that all variants of a comparison share.

    Args:
        scenes: how often classes and their stuff go together: a name in `SCENES`.
        data: a folder of your own photos in place of the scenes.
        encoder: "small", or another encoder of the baselines (at stride 8).
        size: pixels of a side of the scenes, or of the longer side of photos.
        weights: file of the encoder's weights, which are fine-tuned; without one it is trained from scratch.
    """

    scenes: str = "default"
    data: str | None = None
    encoder: str = "small"
    size: int = 64
    weights: str | None = None

    def training(self, stage: str) -> tuple[int, dict[str, Any]]:
        """The training steps of a stage, and its settings."""
        own = recipe(self.weights is not None)
        optimizer, steps = (
            (own.cam_optimizer, own.cam_steps) if stage == "cam" else (own.optimizer, own.steps)
        )
        return steps, {"optimizer": optimizer, **STAGES[stage][2]}

    @property
    def name(self) -> str:
        """A name for the folder of the results."""
        images = Path(self.data).name if self.data else self.scenes
        return f"{images}_{self.encoder.replace('/', '_')}_{self.size}"

    def data_module(self, seed: int, labels: Path | None) -> WSSSDataModule:
        """The images of the demo in this setting."""
        settings = {"data": self.data, "preset": SCENES[self.scenes], "size": self.size}
        if self.weights:
            settings["crop"] = FINE_TUNED_CROP
        return data_module(seed, settings, labels)


def run_seed(
    setting: Setting,
    seed: int,
    stages: list[str],
    names: list[str],
    variants: dict[str, Variant],
    folder: Path,
) -> list[dict[str, Any]]:
    """All stages and variants of one seed."""
    return [
        run(setting, seed, stage, name, variants, folder)
        for stage in stages
        for name in names
        if variants[name].labels == "baseline" or stage == "amn"
    ]


def run(
    setting: Setting, seed: int, stage: str, name: str, variants: dict[str, Variant], folder: Path
) -> dict[str, Any]:
    """Train and score one variant, or read what is known of it; what it starts from is trained first.

    Args:
        setting: data and encoder.
        seed: of the data, the initialisation and the batches.
        stage: key of `STAGES`. All but "cam" start from the encoder of the baseline's CAM.
        name: of the variant.
        variants: every variant by name.
        folder: of all results.
    """
    own = folder / setting.name / f"seed_{seed}"
    path = own / stage / f"{_slug(name)}.json"
    variant = variants[name]
    key = {
        "setting": asdict(setting),
        "variant": asdict(variant),
        "seed": seed,
        "trained": _trained(setting, stage, variant),
    }
    if stage == "cam" and not path.with_suffix(".ckpt").exists():
        path.unlink(missing_ok=True)  # later stages start from the checkpoint: the figures are not enough

    def compute() -> dict[str, Any]:
        labels = None
        if stage != "cam":
            run(setting, seed, "cam", "baseline", variants, folder)
        if stage == "amn":
            if variant.labels != "baseline":
                run(setting, seed, "cam", variant.labels, variants, folder)
            labels = own / "cam" / f"{_slug(variant.labels)}_labels"
        torch.set_num_threads(1)
        silence()
        scores, seconds = _train(setting, seed, stage, name, variant, own, labels)
        return {"stage": stage, "name": name, "seed": seed, "seconds": seconds, **scores}

    return cached(path, key, compute)


def _trained(setting: Setting, stage: str, variant: Variant) -> dict[str, Any]:
    """The resolved settings of a training: of its stage and of the CAM that it starts from."""
    settings = {name: asdict(value) for name, value in variant.settings(STAGES[stage][1]).items()}
    trained = {"own": setting.training(stage), "start": setting.training("cam")}
    return {**trained, "common": COMMON, "labels": LABEL_THRESHOLDS, **settings}


def _train(
    setting: Setting, seed: int, stage: str, name: str, variant: Variant, own: Path, labels: Path | None
) -> tuple[dict[str, Any], float]:
    """Train, score, and keep what later stages start from."""
    baseline, with_fbr, _ = STAGES[stage]
    steps, options = setting.training(stage)
    data = setting.data_module(seed, labels)
    optimizer = options["optimizer"]
    rates = {name: variant.rate_factor * optimizer[name] for name in ("lr", "head_lr")}
    options = {"encoder": setting.encoder, **COMMON, **options, "optimizer": {**optimizer, **rates}}
    if setting.encoder != "small":
        options["output_stride"] = 8
    options["weights"] = setting.weights
    if stage != "cam":
        options["weights"] = str(own / "cam" / "baseline.ckpt")
    pl.seed_everything(seed + variant.seed_offset, verbose=False)
    settings = variant.settings(with_fbr)
    model = (with_fbr if settings else baseline)(data.num_classes, **options, **settings)
    if setting.weights:
        model.to(memory_format=torch.channels_last)  # a fifth faster on CPUs for convolutions of this size
    trainer = quiet_trainer(max_steps=steps, default_root_dir=own)
    start = time.perf_counter()
    with uniform_classes() if variant.uniform else nullcontext():
        trainer.fit(model, data)
    seconds = time.perf_counter() - start
    (logged,) = trainer.test(model, data, verbose=False)
    sweep, cooccurrence = model.scores.sweep.compute(), model.scores.cooccurrence
    scores = {
        **{key.removeprefix("test/"): value for key, value in logged.items()},
        "recall_curve": [result.recall for result in sweep.results],
        "fp_curve": list(cooccurrence.compute().cooccurring) if cooccurrence else None,
        "miou_curve": list(sweep.miou),
        "thresholds": list(sweep.thresholds),
    }
    if stage == "cam":
        trainer.save_checkpoint(own / "cam" / f"{_slug(name)}.ckpt")
        target = own / "cam" / f"{_slug(name)}_labels"
        trainer.callbacks.append(SeedWriter(target, thresholds=LABEL_THRESHOLDS))  # type: ignore[attr-defined]
        trainer.predict(model, data, return_predictions=False)
        scores |= label_quality(data, target)
    return scores, seconds


@contextmanager
def uniform_classes() -> Iterator[None]:
    """Draw the classes of foreground negatives uniformly, by a semantic graph of a very high temperature."""
    graph = functional.semantic_graph

    def uniform(prototypes: Tensor, present: Tensor, temperature: float = 1e6) -> Tensor:
        return graph(prototypes, present, 1e6)

    functional.semantic_graph = uniform
    try:
        yield
    finally:
        functional.semantic_graph = graph


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def quiet_trainer(**limits: Any) -> pl.Trainer:
    """A Trainer on the CPU that writes and prints nothing, with these arguments beside."""
    return pl.Trainer(
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        accelerator="auto",
        devices=1,
        **limits,
    )


def silence() -> None:
    """Keep Lightning and its warnings out of the progress lines."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
