"""What writes the files of `predict`, and its options."""

from functools import partial
from pathlib import Path

from jsonargparse import Namespace
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser

from fbr_plugin.callbacks.seed_refiner import SeedRefiner
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.errors import InputError, check_label_thresholds
from fbr_plugin.files import warn_of_files
from fbr_plugin.pipeline.settings import Refiner, method
from fbr_plugin.postprocess.affinity_labels import affinity_labels
from fbr_plugin.postprocess.refine import check_refinement
from fbr_plugin.postprocess.workers import refining_workers
from fbr_plugin.training.fbr_maps import FBRMaps

REFINE = (
    "with --thresholds, refine the labels along the edges of the photos, as the stage labels of the pipeline "
    "does: crf (as published), pamr, or auto, which takes the CRF where it is installed"
)
SCALE = "with --refine, divides the distances of the CRF: use n if objects are n times smaller than VOC's"


def add_writer_options(parser: LightningArgumentParser) -> None:
    """Add the options that say what `predict` writes."""
    parser.add_class_arguments(SeedWriter, skip={"thresholds"}, instantiate=False)
    what = "write label PNGs instead of seeds: the class above FG, 0 below BG, 255 in between"
    parser.add_argument("--thresholds", nargs=2, type=float, metavar=("FG", "BG"), help=what)
    parser.add_argument("--refine", type=Refiner, default="none", help=REFINE)
    parser.add_argument("--scale", type=float, default=1.0, help=SCALE)


def prediction_writers(config: Namespace) -> list[Callback]:
    """What writes the predictions: labels that are to be refined are made in processes of their own.

    A warning tells of files that are there already.
    """
    folder = Path(config.output_dir)
    if is_rank_zero():
        warn_of_files(folder)
    if (how := method(config.refine)) is None:
        thresholds = tuple(config.thresholds) if config.thresholds else None
        return [FBRMaps(folder), SeedWriter(folder, config.format, thresholds)]
    if not config.thresholds:
        raise InputError(f"--refine {config.refine} refines labels: give their --thresholds FG BG as well")
    fg, bg = config.thresholds
    check_label_thresholds(fg, bg)
    check_refinement(config.scale)
    labels = partial(affinity_labels, fg=fg, bg=bg, method=how, scale=config.scale)
    return [FBRMaps(folder), SeedRefiner(folder, {"": labels}, workers=refining_workers(how))]
