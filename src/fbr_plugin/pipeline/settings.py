"""The settings of the pipeline: one parser, and what a network's section of them builds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from jsonargparse import ArgumentParser

from fbr_plugin.contract import SeedStyle
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.postprocess.dense_crf import import_pydensecrf
from fbr_plugin.postprocess.refine import Method, default_method

TRAININGS = ("classifier", "baseline", "irn", "segmentation")
Refiner = Literal["auto", "crf", "pamr", "none"]


@dataclass
class LabelSettings:
    """Labels of two thresholds, made of seeds.

    Args:
        fg: a pixel whose best score exceeds it has that class.
        bg: a pixel whose best score is at most this is background; those in between are ignored.
        refine: by what labels are refined along edges; "auto" is a dense CRF where pydensecrf2 is installed,
            else PAMR.
        scale: divides the distances of the CRF, which suit PASCAL VOC's photos: n where objects are n times
            smaller.
    """

    fg: float = 0.30
    bg: float = 0.05
    refine: Refiner = "none"
    scale: float = 1.0


@dataclass
class MaskSettings:
    """Masks of every pixel, made of seeds.

    Args:
        background: score of the background, beside seeds raised to `power`; None takes .25 after IRN's random
            walk, else the threshold at which the seeds of images and of their mirror images agree best.
        power: to which seeds are raised (AMN 1.3, BAS 1.5), before IRN's random walk.
        refine: by what masks are refined along edges, as in the labels.
        scale: of the CRF, as in the labels.
    """

    background: float | None = None
    power: float = 1.0
    refine: Refiner = "auto"
    scale: float = 1.0


def parser() -> ArgumentParser:
    """The settings of the whole pipeline."""
    result = ArgumentParser(
        prog="fbr-plugin pipeline",
        description="Train a classifier on image labels, a baseline on labels of its seeds, IRN on those of "
        "the baseline's, and a segmentation network on the masks of it all; score every stage. Each stage "
        "has a folder, is skipped while neither its settings nor what it starts from change, and goes on "
        "where it was cut.",
    )
    result.add_argument("--config", action="config", help="YAML file of settings")
    result.add_argument("--output", type=Path, default=Path("runs/pipeline"), help="folder of the stages")
    result.add_argument("--seed_everything", type=int, default=0, help="random seed of every stage")
    result.add_argument("--from", metavar="STAGE", help="make this stage and those after it again")
    result.add_argument("--until", metavar="STAGE", help="end with this stage")
    result.add_argument(
        "--dry-run", action="store_true", help="say what would be made, and why; make nothing"
    )
    result.add_subclass_arguments(WSSSDataModule, "data", required=True)
    result.add_class_arguments(pl.Trainer, "trainer", instantiate=False)
    for name in TRAININGS:
        result.add_subclass_arguments(pl.LightningModule, f"{name}.model", required=name == "classifier")
        result.link_arguments(
            "data.num_classes", f"{name}.model.init_args.num_classes", apply_on="instantiate"
        )
        for part in ("trainer", "data"):
            what = f"arguments of {part} for the {name} alone, in the place of the common ones"
            result.add_argument(f"--{name}.{part}", type=dict[str, Any], default={}, help=what)
    what = "what AMN is trained on; null makes none, for a baseline that needs none"
    result.add_argument("--labels", type=LabelSettings | None, default=LabelSettings(), help=what)
    result.add_argument(
        "--seeds", type=SeedStyle | None, help="write the seeds as arrays, too, in this style"
    )
    result.add_argument(
        "--affinity", type=LabelSettings, default=LabelSettings(), help="what IRN is trained on"
    )
    result.add_argument(
        "--masks", type=MaskSettings, default=MaskSettings(), help="the result for the training images"
    )
    return result


def method(refiner: Refiner) -> Method | None:
    """The refiner that a setting means here; an ImportError where it is not installed."""
    if refiner == "crf":
        import_pydensecrf()
    return default_method() if refiner == "auto" else None if refiner == "none" else refiner
