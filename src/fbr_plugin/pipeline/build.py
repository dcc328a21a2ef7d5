"""The stages of a pipeline's settings: what each does, what decides it, and what it starts from."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import Namespace

from fbr_plugin.callbacks.seed_refiner import SeedRefiner
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.contract import ScorePropagator, SeedStyle
from fbr_plugin.data.datamodules.voc import VOCDataModule
from fbr_plugin.data.readers.files import reading_once
from fbr_plugin.errors import InputError, InputTypeError
from fbr_plugin.pipeline import stages
from fbr_plugin.pipeline.record import RECORD, PipelineStage, Scores
from fbr_plugin.pipeline.settings import method
from fbr_plugin.pipeline.stages import CHECKPOINT
from fbr_plugin.pipeline.training import Training, trainings
from fbr_plugin.postprocess.affinity_labels import affinity_labels
from fbr_plugin.postprocess.exports import submission
from fbr_plugin.postprocess.pseudo_masks import ToMask, pseudo_mask

WALKED_BACKGROUND = 0.25  # of IRN's released code


@reading_once()
def build_stages(config: Namespace) -> list[PipelineStage]:
    """The stages that the settings ask for, in order; this writes nothing and reads each list once."""
    networks = trainings(config)
    classifier = seeds = networks["classifier"]
    result = [_training("classifier", classifier, "fit", "test")]
    needs: tuple[str, ...] = ("classifier",)
    if "baseline" in networks:
        seeds = networks["baseline"]
        labels: tuple[str, ...] = ()
        if config.labels:
            result.append(_labels("labels", config.labels, classifier, needs))
            labels = ("labels",)  # which AMN reads where it predicts, too
        result.append(_training("baseline", seeds, "fit", "test", labels=labels))
        needs = ("baseline", *labels)
    if config.seeds:
        result.append(_arrays(config.seeds, seeds, needs))
    walk = networks.get("irn")
    if walk:
        result.append(_labels("affinity", config.affinity, seeds, needs))
        result.append(_training("irn", walk, "fit", labels=("affinity",)))
    result.append(_masks(config.masks, seeds, walk, needs))
    if network := networks.get("segmentation"):
        result.append(_training("segmentation", network, "fit", labels=("masks",)))
        result.append(_predictions(network))
    return result


def _training(
    name: str, training: Training, *uses: Literal["fit", "test"], labels: tuple[str, ...] = ()
) -> PipelineStage:
    """Train a network, and score its seeds where it has some."""

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        model = training.network(inputs.get("classifier"))
        data = training.images(next((inputs[label] / label for label in labels), None))
        stages.fit(folder, model, data, training.trainer_flags())
        return stages.test(folder, model, data, training.trainer_flags()) if "test" in uses else {}

    start = ("classifier",) if training.from_classifier else ()
    return PipelineStage(name, training.settings(*uses), make, (*start, *labels))


def _labels(name: str, labels: Namespace, seeds: Training, needs: tuple[str, ...]) -> PipelineStage:
    """Write labels of two thresholds."""
    if labels.fg < labels.bg:
        raise InputError(f"{name}.fg ({labels.fg}) is below {name}.bg ({labels.bg}): swap them")
    own = {**labels.as_dict(), "refine": method(labels.refine)}
    options = {"fg": own["fg"], "bg": own["bg"], "method": own["refine"], "scale": own["scale"]}
    to_mask: dict[str, ToMask] = {name: partial(affinity_labels, **options)}

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        _predict(seeds, inputs, SeedRefiner(folder, to_mask, workers=_workers(own)), folder / name)
        return {}

    return PipelineStage(name, {**seeds.settings("predict"), "labels": own}, make, needs)


def _arrays(style: SeedStyle, seeds: Training, needs: tuple[str, ...]) -> PipelineStage:
    """Write the seeds themselves."""

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        _predict(seeds, inputs, SeedWriter(folder, style), folder)
        return {}

    return PipelineStage("seeds", {**seeds.settings("predict"), "style": style}, make, needs)


def _masks(masks: Namespace, seeds: Training, walk: Training | None, needs: tuple[str, ...]) -> PipelineStage:
    """Write a mask of every training image, before and after its refinement."""
    own = {**masks.as_dict(), "refine": method(masks.refine)}
    settings = {**seeds.settings("predict", "test"), "masks": own, "walk": walk and walk.model}
    unknown = own["background"] is None and not walk and seeds.module.prepared("test")
    if unknown and not stages.has_masks(seeds.module):
        raise InputError(
            "no threshold known, as there are no masks to score seeds with: set masks.background, say .25"
        )

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        background = own["background"]
        if background is None:
            # The threshold is one of the seeds, which are raised to the power before they meet it.
            background = (
                WALKED_BACKGROUND if walk else _label_free_threshold(inputs[needs[0]]) ** own["power"]
            )
        plain = partial(pseudo_mask, background=background)
        to_mask: dict[str, ToMask] = {"masks": plain}
        if own["refine"]:
            refined = partial(plain, method=own["refine"], scale=own["scale"])
            to_mask = {"unrefined": plain, "masks": refined}
        spread = None
        if walk:
            network = walk.network()
            state = torch.load(inputs["irn"] / CHECKPOINT, map_location="cpu", weights_only=True)
            network.load_state_dict(state["state_dict"])
            if not isinstance(network, ScorePropagator):
                raise InputTypeError(
                    f"irn.model is a {type(network).__name__}, which has no method propagate"
                )
            spread = network
        writer = SeedRefiner(folder, to_mask, spread, own["power"], _workers(own))
        _predict(seeds, inputs, writer, folder / "masks")
        kinds, data = {kind: folder / kind for kind in to_mask}, seeds.images()
        earlier = {name: inputs[name] / name for name in needs if name == "labels"}
        stages.draw_masks({**earlier, **kinds}, data, folder / "examples.png")
        return {f"miou_{kind}": score for kind, score in stages.score_masks(kinds, data).items()}

    return PipelineStage("masks", settings, make, (*needs, *(["irn"] if walk else [])))


def _predictions(network: Training) -> PipelineStage:
    """Write what the segmentation network predicts where it is scored, of PASCAL VOC also as an archive."""

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        data, masks = network.images(), folder / "masks"
        checkpoint = inputs["segmentation"] / CHECKPOINT
        writer = SeedWriter(masks)
        stages.predict(checkpoint, network.network(), data, network.trainer_flags(), writer, masks, "test")
        stages.draw_masks({"predictions": masks}, data, folder / "examples.png")
        if isinstance(data, VOCDataModule):
            submission(masks, data.dataset("test").source.ids, folder / "submission.tar.gz")
        return stages.score_masks({"miou_predictions": masks}, data)

    return PipelineStage("predictions", network.settings("test"), make, ("segmentation",))


def _workers(settings: dict[str, Any]) -> int:
    """Processes for a CRF, a share of the cores for each device; PAMR runs on the device itself."""
    if settings["refine"] != "crf":
        return 0
    return max(1, (os.cpu_count() or 1) // max(1, torch.cuda.device_count()))


def _predict(seeds: Training, inputs: dict[str, Path], writer: SeedRefiner | SeedWriter, done: Path) -> None:
    """Have a callback write what becomes of the seeds of the training images."""
    checkpoint = next(inputs[name] for name in ("baseline", "classifier") if name in inputs) / CHECKPOINT
    data = seeds.images(inputs["labels"] / "labels" if "labels" in inputs else None)
    stages.predict(checkpoint, seeds.network(), data, seeds.trainer_flags(), writer, done)


def _label_free_threshold(folder: Path) -> float:
    """The threshold that a stage found without masks."""
    scores: Scores = json.loads((folder / RECORD).read_text())["scores"]
    return scores["threshold_label_free"]
