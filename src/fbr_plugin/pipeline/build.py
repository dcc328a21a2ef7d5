"""The stages of a pipeline, built from its settings: their actions, dependencies and inputs."""

import json
from functools import partial
from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from fbr_plugin.callbacks.seed_refiner import SeedRefiner
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.contract import SeedStyle
from fbr_plugin.data.datamodules.voc import VOCDataModule
from fbr_plugin.data.readers.files import reading_once
from fbr_plugin.errors import InputError, check_label_thresholds
from fbr_plugin.pipeline import stages
from fbr_plugin.pipeline.calibration import WALKED_BACKGROUND, calibrated_background, calibration
from fbr_plugin.pipeline.instances import instance_network, pseudo_instances
from fbr_plugin.pipeline.record import RECORD, PipelineStage, Scores
from fbr_plugin.pipeline.settings import method
from fbr_plugin.pipeline.stages import CHECKPOINT
from fbr_plugin.pipeline.trained import predict_seeds, propagator
from fbr_plugin.pipeline.training import Training, trainings
from fbr_plugin.postprocess.affinity_labels import affinity_labels, power_labels
from fbr_plugin.postprocess.exports import submission
from fbr_plugin.postprocess.pseudo_masks import ToMask, pseudo_mask
from fbr_plugin.postprocess.refine import check_refinement
from fbr_plugin.postprocess.workers import refining_workers
from fbr_plugin.training.fbr_maps import FBRMaps


@reading_once()
def build_stages(config: Namespace) -> list[PipelineStage]:
    """The stages that the settings require, in order; this writes nothing and reads each list once."""
    networks = trainings(config)
    classifier = seeds = networks["classifier"]
    result = [_training("classifier", classifier, "fit", "test")]
    needs: tuple[str, ...] = ("classifier",)
    if "baseline" in networks:
        seeds = networks["baseline"]
        labels: tuple[str, ...] = ()
        if config.labels:
            result.append(_labels("labels", config.labels, classifier, needs))
            labels = ("labels",)  # which AMN also reads in prediction
        combined = ("classifier",) if seeds.combined else ()
        result.append(_training("baseline", seeds, "fit", "test", labels=labels))
        needs = ("baseline", *labels, *combined)
    if config.seeds:
        result.append(_arrays(config.seeds, seeds, needs))
    walk = networks.get("irn")
    if walk:
        result.append(_labels("affinity", config.affinity, seeds, needs))
        result.append(_training("irn", walk, "fit", labels=("affinity",)))
        needs = (*needs, "irn")
    if config.calibrate:
        result.append(calibration(config, seeds, walk, needs))
        needs = (*needs, "calibration")
    if config.instances:
        result.append(pseudo_instances(config.instances, seeds, walk, needs))
    result.append(_masks(config.masks, seeds, walk, needs))
    if network := networks.get("segmentation"):
        result.append(_training("segmentation", network, "fit", labels=("masks",)))
        result.append(_predictions(network))
    if network := networks.get("instance_network"):
        result += instance_network(network, bool(config.instances))
    return result


def _training(
    name: str, training: Training, *uses: Literal["fit", "test"], labels: tuple[str, ...] = ()
) -> PipelineStage:
    """A stage that trains a network, and scores its seeds if it has any."""

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        model = training.network(inputs.get("classifier"))
        data = training.images(next((inputs[label] / label for label in labels), None))
        stages.fit(folder, model, data, training.trainer_flags())
        return stages.test(folder, model, data, training.trainer_flags()) if "test" in uses else {}

    start = ("classifier",) if training.from_classifier or training.combined else ()
    return PipelineStage(name, training.settings(*uses), make, (*start, *labels))


def _labels(name: str, labels: Namespace, seeds: Training, needs: tuple[str, ...]) -> PipelineStage:
    """A stage that writes labels from two thresholds."""
    check_label_thresholds(labels.fg, labels.bg, (f"{name}.fg", f"{name}.bg"))
    check_refinement(labels.scale, where=f"{name}.")
    own = {**labels.as_dict(), "refine": method(labels.refine)}
    powers = labels.background_powers
    if powers and not 0 < powers[0] <= powers[1]:
        raise InputError(f"{name}.background_powers={powers} must be two powers with 0 < first <= second")
    fg, bg = powers or (labels.fg, labels.bg)
    make_labels = power_labels if powers else affinity_labels
    options = {"fg": fg, "bg": bg, "method": own["refine"], "scale": own["scale"]}
    to_mask: dict[str, ToMask] = {name: partial(make_labels, **options)}

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        writer = SeedRefiner(folder, to_mask, workers=refining_workers(own["refine"]))
        predict_seeds(seeds, inputs, [FBRMaps(folder), writer], folder / name)
        return {}

    return PipelineStage(name, {**seeds.settings("predict"), "labels": own}, make, needs)


def _arrays(style: SeedStyle, seeds: Training, needs: tuple[str, ...]) -> PipelineStage:
    """A stage that writes the seeds themselves."""

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        predict_seeds(seeds, inputs, [SeedWriter(folder, style)], folder)
        return {}

    return PipelineStage("seeds", {**seeds.settings("predict"), "style": style}, make, needs)


def _masks(masks: Namespace, seeds: Training, walk: Training | None, needs: tuple[str, ...]) -> PipelineStage:
    """A stage that writes a mask of every training image, before and after refinement."""
    own = {**masks.as_dict(), "refine": method(masks.refine)}
    settings = {**seeds.settings("predict", "test"), "masks": own, "walk": walk and walk.model}
    calibrated = "calibration" in needs
    if (power := own["background_power"]) is not None and (own["background"] is not None or calibrated):
        raise InputError(
            f"masks.background_power={power} makes a background of the seeds: leave out masks.background and "
            "calibrate, or the power"
        )
    check_refinement(masks.scale, masks.steps, "masks.")
    for setting in ("power", "background_power"):
        if own[setting] is not None and not own[setting] > 0:
            raise InputError(f"masks.{setting} must be above 0, got {own[setting]}")
    if own["background"] is not None and not 0 <= own["background"] <= 1:
        raise InputError(f"masks.background must lie in [0, 1], got {own['background']}")
    known = own["background"] is not None or power or walk or calibrated or not seeds.module.prepared("test")
    if not known and not stages.has_masks(seeds.module):
        raise InputError(
            "no threshold known, as there are no masks to score seeds with: set masks.background, e.g. to "
            ".25, or draw about 20 masks and give the list of these images as calibrate"
        )

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        background = own["background"]
        if calibrated:
            background = calibrated_background(inputs)
        elif background is None and power is None:
            # The threshold was chosen for seeds that are not yet raised to the power.
            background = (
                WALKED_BACKGROUND if walk else _label_free_threshold(inputs[needs[0]]) ** own["power"]
            )
        plain = partial(pseudo_mask, background=background)
        to_mask: dict[str, ToMask] = {"masks": plain}
        if own["refine"]:
            refined = partial(plain, method=own["refine"], scale=own["scale"], steps=own["steps"])
            to_mask = {"unrefined": plain, "masks": refined}
        spread = propagator(walk, inputs), own["power"], refining_workers(own["refine"]), power
        writer = SeedRefiner(folder, to_mask, *spread)
        predict_seeds(seeds, inputs, [FBRMaps(folder), writer], folder / "masks")
        data = seeds.images()
        scores, ious = stages.score_masks({f"miou_{kind}": folder / kind for kind in to_mask}, data)
        columns = {"labels of the seeds": inputs["labels"] / "labels"} if "labels" in needs else {}
        titles = ("before refinement", "after refinement") if own["refine"] else ("masks",)
        columns |= {title: folder / kind for title, kind in zip(titles, to_mask, strict=True)}
        stages.draw_masks(columns, data, ious, folder / "examples.png")
        if calibrated and scores:
            scores["miou_calibrated"] = next(iter(scores.values()))  # of the masks before refinement
        return scores

    return PipelineStage("masks", settings, make, needs)


def _predictions(network: Training) -> PipelineStage:
    """A stage that writes the segmentation network's masks of the test images, for VOC also as an archive."""

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        data, masks = network.images(), folder / "masks"
        checkpoint = inputs["segmentation"] / CHECKPOINT
        writers = [SeedWriter(masks)]
        stages.predict(checkpoint, network.network(), data, network.trainer_flags(), writers, masks, "test")
        scores, ious = stages.score_masks({"miou_predictions": masks}, data)
        stages.draw_masks({"predictions": masks}, data, ious, folder / "examples.png")
        if isinstance(data, VOCDataModule):
            submission(masks, data.dataset("test").source.ids, folder / "submission.tar.gz")
        return scores

    return PipelineStage("predictions", network.settings("test"), make, ("segmentation",))


def _label_free_threshold(folder: Path) -> float:
    """The label-free threshold of a stage."""
    scores: Scores = json.loads((folder / RECORD).read_text())["scores"]
    return scores["threshold_label_free"]
