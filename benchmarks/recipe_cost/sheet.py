"""The parts of each recipe, and the rule by which hours follow from what an image costs."""

import argparse
import json
import re
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.recipe_cost import photos
from benchmarks.recipe_cost.networks import PRESENT, Cost, Size, prediction_cost, training_cost

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
RECIPES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
DEVICES = (1, 4, 8)
# NVIDIA A100 40 GB in TF32, which torch takes for convolutions: 156 TFLOP/s (data sheet). NVIDIA trains
# ResNet-50 at 938 images a second of 24.3 GFLOP, 15% of it (DeepLearningExamples, ResNet50 v1.5, README).
PEAK, USED, RANGE = 156e12, 0.15, (0.25, 0.10)
EFFICIENCY = 0.9  # of several GPUs; eight train that network 7.72 times as fast as one, with larger batches
CORES = 8  # for each GPU


class Data(NamedTuple):
    """Photos of each list, that of the training first; their usual size, and the number of classes."""

    lists: dict[str, int]
    size: Size = (375, 500)
    classes: int = 0


DATA = {
    "fbr_plugin.data.VOCDataModule": Data({"train_aug": 10582, "train": 1464, "val": 1449}, classes=20),
    "fbr_plugin.data.COCODataModule": Data({"train2014": 82783, "val2014": 40504}, (480, 640), 80),
    "cub": Data({"train": 5994, "test": 5794}),
    "ilsvrc": Data({"train": 1281167, "test": 50000}),
    "openimages": Data({"train": 29819, "test": 5000}, (768, 1024)),
}


class Part(NamedTuple):
    """A training, or a prediction of some photos.

    Attributes:
        name: stage of a pipeline, and what is predicted.
        cost: of an image.
        times: optimizer steps, or photos.
        batch: images of a step; 1 for predictions.
        at_once: images of which one device keeps features at once; 0 for predictions.
        reading: core-seconds of reading an image, divided by the processes that read.
        pooled: core-seconds of an image that are spread over all cores.
        serial: seconds of an image in the one process of a device, during which this device waits.
        disk: bytes that stay.
    """

    name: str
    cost: Cost
    times: int
    batch: int = 1
    at_once: int = 0
    reading: float = 0.0
    pooled: float = 0.0
    serial: float = 0.0
    disk: float = 0.0

    def computing(self, used: float) -> float:
        """Hours on one GPU at a share of its peak; measured ones where that is 0."""
        each = self.cost.flops / (PEAK * used) if used else self.cost.seconds
        return each * self.batch * self.times / 3600

    def hours(self, devices: int, used: float) -> float:
        """Hours on several GPUs: those of the one with the most images of each step."""
        share = ceil(self.batch / devices) / self.batch if self.at_once else 1 / devices
        images = self.batch * self.times / 3600
        waiting = images * max(self.reading, self.pooled / CORES)
        total = max(self.computing(used), waiting) + images * self.serial
        return share * total / (EFFICIENCY if devices > 1 else 1)

    def memory(self, devices: int) -> float:
        """Bytes on each GPU."""
        return self.cost.fixed + self.cost.saved * min(self.at_once, ceil(self.batch / devices))


def settings(recipe: str) -> dict[str, Any]:
    """The settings of a recipe's files, which its head names."""
    found: dict[str, Any] = {}
    for name in re.findall(r"--config examples/recipes/(\S+)", (FOLDER / f"{recipe}.yaml").read_text()):
        found = merged(found, yaml.safe_load((FOLDER / name).read_text()))
    return found


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Settings of which others replace fields."""
    both = (key for key in second if isinstance(first.get(key), dict) and isinstance(second[key], dict))
    return {**first, **second, **{key: merged(first[key], second[key]) for key in both}}


class Sheet:
    """The parts of a recipe.

    Args:
        recipe: its name.
        options: those of the command line: device, images of a measured step, and repeats.
    """

    def __init__(self, recipe: str, options: argparse.Namespace) -> None:
        self.options, self.found = options, settings(recipe)
        self.arguments: dict[str, Any] = self.found["data"]["init_args"]
        self.data = DATA[self.arguments.get("layout", self.found["data"]["class_path"])]
        self.train = next(iter(self.data.lists))

    def parts(self) -> list[Part]:
        """All trainings and predictions, in order."""
        return list(self._localization() if "model" in self.found else self._pipeline())

    def _pipeline(self) -> Iterator[Part]:
        found, size = self.found, self.data.size
        scored = self.arguments["lists"]["val"]
        yield self._training("classifier")
        yield self._prediction("classifier", "classifier: scores", scored)
        if found.get("until") == "classifier":
            return
        seeds = "baseline" if self._has("baseline") else "classifier"
        if seeds == "baseline":
            if found["labels"]:
                yield self._labels("labels", "classifier")
            yield self._training("baseline")
            yield self._prediction("baseline", "baseline: scores", scored)
        if "irn" in found:
            yield self._labels("affinity", seeds)
            yield self._training("irn")
            if "instances" in found:
                walks = self._prediction("irn", "instances: walks", self.train, files=1)
                yield walks._replace(serial=photos.instance_seconds(size), reading=0)
                yield self._prediction(seeds, "instances", self.train)
            walk = self._prediction("irn", "masks: walk", self.train)
            yield walk._replace(serial=photos.walk_seconds(size), reading=0)
        masks = self._prediction(seeds, "masks", self.train, files=1)
        if found["masks"]["refine"] == "crf":  # of which the unrefined masks are written as well
            crf = photos.crf_seconds(size, 1 + PRESENT, "crf", found["masks"]["steps"])
            masks = masks._replace(pooled=crf, disk=2 * masks.disk)
        yield masks
        if self._has("segmentation"):
            yield self._training("segmentation")
            tested = found["segmentation"]["data"]["lists"]["val"]
            crf = photos.crf_seconds(size, 1 + self.data.classes, "deeplab_crf")
            yield self._prediction("segmentation", "predictions", tested, files=1)._replace(serial=crf)
        if self._has("instance_network"):
            yield self._training("instance_network")
            tested = found["instance_network"]["data"]["lists"]["val"]
            yield self._prediction("instance_network", "instance_predictions", tested, files=1)

    def _localization(self) -> Iterator[Part]:
        """The training, the validation after each of its epochs, and the test."""
        side = self.arguments["centre_crop"] or self.arguments["eval_size"]
        yield self._training("model")
        workers, square = self.arguments["loading"]["num_workers"], self.arguments["eval_size"]
        reading = photos.reading_seconds(self.data.size, square=square) / workers
        metrics = photos.metrics_seconds(side, self.arguments["layout"] == "openimages")
        epochs, crops = self.found["trainer"]["max_epochs"], 10 * self.arguments["ten_crop"]
        for name, runs, number in (("validation", epochs, 1), ("test", 1, 1 + crops)):
            cost = prediction_cost(self.spec("model"), "", (side, side), number, self.options.device)
            yield Part(name, cost, runs * self.data.lists["test"], reading=reading, serial=metrics)

    def _has(self, stage: str) -> bool:
        """Whether the recipe has this network."""
        return bool(self.found.get(stage, {}).get("model"))

    def _labels(self, name: str, seeds: str) -> Part:
        """The labels of two thresholds, each of which the CRF refines."""
        crf = photos.crf_seconds(self.data.size, 1 + PRESENT, "crf")
        return self._prediction(seeds, name, self.train, files=1)._replace(pooled=2 * crf)

    def _training(self, stage: str) -> Part:
        section = {} if stage == "model" else self.found[stage]
        data, options = merged(self.arguments, section.get("data", {})), self.options
        trainer = merged(self.found.get("trainer", {}), section.get("trainer", {}))
        at_once, gathered = data["loading"]["batch_size"], trainer.get("accumulate_grad_batches", 1)
        steps = trainer.get("max_steps") or trainer["max_epochs"] * (self.data.lists[self.train] // at_once)
        side, number = data["augmentation"]["crop_size"], min(at_once, options.images or at_once)
        cost = training_cost(self.spec(stage), side, number, options.device, options.repeats)
        reading = photos.reading_seconds(self.data.size, json.dumps(data["augmentation"]))
        # A pipeline keeps the weights, Lightning's checkpoint also the optimizer's state.
        disk = cost.weights + (cost.state if stage == "model" else 0)
        batch, workers = at_once * gathered, data["loading"]["num_workers"]
        return Part(stage, cost, steps, batch, at_once, reading / workers, disk=disk)

    def _prediction(self, stage: str, name: str, listed: str, files: int = 0) -> Part:
        """The prediction of a list of photos, with this number of masks of each."""
        combined = self.found[stage]["model"]["init_args"].get("combine_with")
        cam = self.spec("classifier") if combined else ""
        cost = prediction_cost(self.spec(stage), cam, self.data.size, 0, self.options.device)
        reading = photos.reading_seconds(self.data.size) / self.arguments["loading"]["num_workers"]
        number = self.data.lists[listed]
        return Part(
            name, cost, number, reading=reading, disk=number * files * photos.mask_bytes(self.data.size)
        )

    def spec(self, stage: str) -> str:
        """Class path and arguments of a stage's network, in JSON."""
        model = self.found["model"] if stage == "model" else self.found[stage]["model"]
        classes = {"num_classes": self.data.classes} if self.data.classes else {}
        return json.dumps({**model, "init_args": {**model["init_args"], **classes}}, sort_keys=True)
