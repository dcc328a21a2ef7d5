"""The settings of the pipeline and their parser."""

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from jsonargparse import ArgumentParser

from fbr_plugin.contract import SeedStyle
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.postprocess.dense_crf import STEPS, import_pydensecrf
from fbr_plugin.postprocess.refine import Method, default_method

TRAININGS = ("classifier", "baseline", "irn", "segmentation", "instance_network")
Refiner = Literal["auto", "crf", "pamr", "none"]


@dataclass
class LabelSettings:
    """Labels made from seeds by two thresholds.

    Args:
        fg: a pixel whose best score exceeds this gets that class.
        bg: a pixel whose best score is at most this is background; those in between are ignored.
        refine: method that refines labels along edges; "auto" is a dense CRF if pydensecrf2 is installed,
            else PAMR.
        scale: divides the distances of the CRF, which suit PASCAL VOC's photos; use n if objects are n times
            smaller.
        background_powers: powers p of a background (1 - best score) ** p, with which labels are made instead
            of thresholds: foreground with the first, background with the second; SEAM (4, 24).
    """

    fg: float = 0.30
    bg: float = 0.05
    refine: Refiner = "none"
    scale: float = 1.0
    background_powers: tuple[float, float] | None = None


@dataclass
class MaskSettings:
    """Masks of every pixel, made from seeds.

    Args:
        background: score of the background, compared with seeds raised to `power`; None uses .25 after IRN's
            random walk, else the threshold at which the seeds of images and their mirror images agree best;
            with `calibrate`, the threshold that this finds in either case.
        power: exponent of the seeds (AMN 1.3, BAS 1.5), applied before IRN's random walk.
        refine: method that refines masks along edges, as for the labels.
        scale: of the CRF, as for the labels.
        background_power: power p of a background (1 - best score) ** p, which replaces the constant score and
            spreads with the seeds; EPS 8, SEAM 6.
        steps: of the CRF's inference; EPS 5.
    """

    background: float | None = None
    power: float = 1.0
    refine: Refiner = "auto"
    scale: float = 1.0
    background_power: float | None = None
    steps: int = STEPS


@dataclass
class InstanceSettings:
    """Instances of every training image, made from seeds and the displacements of IRN.

    Args:
        background: score of the background, compared with those of the instances after the random walk; None
            uses .25, as published; with `calibrate`, the threshold that this finds for the masks.
        power: exponent of the seeds, applied before the random walk.
        cluster_threshold: displacements shorter than this many pixels of IRN's grid are near zero; take less
            than the published value where objects cover few of these pixels.
        join: whether fragments with the same centroid are one instance, such as the two ends of a partly
            hidden object; the released code takes each as an instance.
    """

    background: float | None = None
    power: float = 1.0
    cluster_threshold: float = 2.5
    join: bool = False


@cache
def parser(kind: type[ArgumentParser] = ArgumentParser) -> ArgumentParser:
    """The parser of the whole pipeline's settings."""
    result = kind(
        prog="fbr-plugin pipeline",
        description="Train a classifier on image labels, a baseline on labels from its seeds, IRN on labels "
        "from the baseline's seeds, and a segmentation network on the resulting masks, or a network of "
        "instances on instance masks; score every stage. "
        "Each stage has a folder, is skipped while its settings and inputs are unchanged, and continues "
        "after an interruption.",
    )
    result.add_argument("--config", action="config", help="YAML file of settings")
    result.add_argument("--output", type=Path, default=Path("runs/pipeline"), help="folder of the stages")
    result.add_argument("--seed_everything", type=int, default=0, help="random seed of every stage")
    result.add_argument("--from", metavar="STAGE", help="run this stage and those after it again")
    result.add_argument("--until", metavar="STAGE", help="stop after this stage")
    result.add_argument("--dry-run", action="store_true", help="print which stages would run, and why")
    result.add_subclass_arguments(WSSSDataModule, "data", required=True)
    result.add_class_arguments(pl.Trainer, "trainer", instantiate=False)
    for name in TRAININGS:
        result.add_subclass_arguments(pl.LightningModule, f"{name}.model", required=name == "classifier")
        result.link_arguments(
            "data.num_classes", f"{name}.model.init_args.num_classes", apply_on="instantiate"
        )
        for part in ("trainer", "data"):
            what = f"arguments of {part} for the {name} only, which replace the common ones"
            result.add_argument(f"--{name}.{part}", type=dict[str, Any], default={}, help=what)
    result.add_argument(
        "--calibrate",
        metavar="LIST",
        help="choose the background threshold of the masks and instances with the true masks of these "
        "training images; about 20 are enough: the name of a list of the data, or a text file of ids",
    )
    what = "labels for AMN; null makes none, for a baseline without them"
    result.add_argument("--labels", type=LabelSettings | None, default=LabelSettings(), help=what)
    result.add_argument(
        "--seeds", type=SeedStyle | None, help="also write the seeds as arrays, in this style"
    )
    result.add_argument("--affinity", type=LabelSettings, default=LabelSettings(), help="labels for IRN")
    result.add_argument(
        "--masks", type=MaskSettings, default=MaskSettings(), help="masks of the training images"
    )
    what = "instances of the training images; null makes none"
    result.add_argument("--instances", type=InstanceSettings | None, default=None, help=what)
    return result


def method(refiner: Refiner) -> Method | None:
    """The refinement method of a setting; raise ImportError if it is not installed."""
    if refiner == "crf":
        import_pydensecrf()
    return default_method() if refiner == "auto" else None if refiner == "none" else refiner


def with_save_dir(words: list[str]) -> list[str]:
    """Let a logger that needs a `save_dir` be named alone: `.`, as Weights & Biases has by default."""
    needy = re.compile(r"(.*\.)?(TensorBoardLogger|CSVLogger)")
    for index, (option, value) in enumerate(pairwise([*words, ""])):
        option, _, joined = option.partition("=")
        if option == "--trainer.logger" and needy.fullmatch(joined or value):
            after = index + (1 if joined else 2)
            return [*words[:after], "--trainer.logger.save_dir", ".", *words[after:]]
    return words
