"""The stages of instances: their masks made from seeds, a network trained on these, and its predictions."""

from collections.abc import Iterator
from pathlib import Path

import torch
from jsonargparse import Namespace
from tqdm import tqdm

from fbr_plugin import figures
from fbr_plugin.callbacks.instance_writer import InstanceWriter
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.instances.arrays import to_tensors
from fbr_plugin.data.instances.codes import mask_tools
from fbr_plugin.data.instances.files import instances_path, read_instances
from fbr_plugin.data.sources import Source
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.errors import InputError
from fbr_plugin.figures.choice import quantile_rows
from fbr_plugin.instances import InstanceDetector, Instances
from fbr_plugin.pipeline import stages
from fbr_plugin.pipeline.calibration import WALKED_BACKGROUND, calibrated_background
from fbr_plugin.pipeline.record import PipelineStage, Scores
from fbr_plugin.pipeline.stages import CHECKPOINT
from fbr_plugin.pipeline.trained import predict_seeds, trained_walk
from fbr_plugin.pipeline.training import Training
from fbr_plugin.postprocess.instances.evaluate import evaluate_instances

FOLDER = "instances"  # of the files, in the folder of a stage


def pseudo_instances(
    settings: Namespace, seeds: Training, walk: Training | None, needs: tuple[str, ...]
) -> PipelineStage:
    """A stage that writes the instances of every training image."""
    if walk is None:
        raise InputError("instances are made from the displacements of IRN: add irn.model, or leave them out")
    calibrated = "calibration" in needs
    background = WALKED_BACKGROUND if settings.background is None else settings.background
    if not (settings.power > 0 and settings.cluster_threshold > 0 and 0 <= background < 1):
        raise InputError(
            "instances need a power and a cluster_threshold above 0 and a background from 0 to below 1, got "
            f"power={settings.power}, cluster_threshold={settings.cluster_threshold} and "
            f"background={background}"
        )
    mask_tools()  # if their package is missing, this shows before anything is made
    options = {**settings.as_dict(), "background": None if calibrated else background}
    own = {**options, "walk": walk.model}

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        detector = trained_walk(walk, inputs)
        if not isinstance(detector, InstanceDetector):
            raise InputError(f"irn.model is a {type(detector).__name__}, which has no method instances")
        used = calibrated_background(inputs) if calibrated else background
        writer = InstanceWriter(folder / FOLDER, detector, **{**options, "background": used})
        predict_seeds(seeds, inputs, [writer], folder / FOLDER)
        return {"background": used, **_scored(folder, seeds.images(), "instances")}

    return PipelineStage("instances", {**seeds.settings("predict", "test"), "instances": own}, make, needs)


def instance_network(network: Training, made: bool) -> tuple[PipelineStage, PipelineStage]:
    """A stage that trains a network on the instances, and one that writes its instances of the test images.

    Args:
        network: the network.
        made: whether the pipeline makes instances.
    """
    if not made:
        raise InputError("instance_network trains on instances, and none are made: add instances")

    def train(folder: Path, inputs: dict[str, Path]) -> Scores:
        data = network.images(instances=inputs["instances"] / FOLDER)
        stages.fit(folder, network.network(), data, network.trainer_flags())
        return {}

    def predict(folder: Path, inputs: dict[str, Path]) -> Scores:
        data, written = network.images(), folder / FOLDER
        checkpoint = inputs["instance_network"] / CHECKPOINT
        flags, writers = network.trainer_flags(), [SeedWriter(written)]
        stages.predict(checkpoint, network.network(), data, flags, writers, written, "test")
        return _scored(folder, data, "instance_predictions")

    return (
        PipelineStage("instance_network", network.settings("fit"), train, ("instances",)),
        PipelineStage("instance_predictions", network.settings("test"), predict, ("instance_network",)),
    )


def _scored(folder: Path, data: WSSSDataModule, title: str) -> Scores:
    """Score the files of a stage on those test images that have true instances, and plot some of them."""
    source = data.dataset("test").source
    known = [index for index, name in enumerate(source.ids) if instances_path(folder / FOLDER, name).exists()]
    if not is_rank_zero() or not known or "instances" not in source[known[0]]:
        return {}
    truth = tqdm(_truths(source, known), "score instances", len(known), disable=None, leave=False)
    scores = evaluate_instances(folder / FOLDER, truth, data.num_classes).scores()
    shown = [known[row] for row in quantile_rows(range(len(known)), figures.MAX_ROWS)]
    photos = [torch.from_numpy(source[index]["image"]).permute(2, 0, 1) / 255 for index in shown]
    files = [instances_path(folder / FOLDER, source.ids[index]) for index in shown]
    found = [to_tensors(read_instances(path, data.num_classes)) for path in files]
    columns = {"truth": [each for _, each in _truths(source, shown)], title.replace("_", " "): found}
    rule = "Images evenly spaced over the list."
    drawn = figures.instances_over_images(photos, columns, data.class_names, note=rule)
    figures.save(drawn, folder / "examples.png")
    return scores


def _truths(source: Source, indices: list[int]) -> Iterator[tuple[str, Instances]]:
    """The ids of some images and their true instances."""
    for index in indices:
        item = source[index]
        yield item["id"], to_tensors(item["instances"])
