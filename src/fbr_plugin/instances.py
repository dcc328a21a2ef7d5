"""The instances of an image, in the form that torchvision's detectors and torchmetrics' evaluators take."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from fbr_plugin.errors import InputError


class Instances(TypedDict, total=False):
    """The instances of one image: `masks` and `labels` always.

    Attributes:
        masks: [N, H, W] bool; may overlap.
        labels: [N] int64 class numbers 1..C, as in masks of classes.
        scores: [N] float32 confidences, of predictions.
        iscrowd: [N] bool, of true instances: groups of objects, within which predictions do not count.
        ignore: [H, W] bool, of true instances: pixels that count for nothing, such as VOC's borders.
    """

    masks: Tensor
    labels: Tensor
    scores: Tensor
    iscrowd: Tensor
    ignore: Tensor


class InstancePrediction(NamedTuple):
    """The result of `predict_step` of a network that predicts instances.

    Attributes:
        ids: B names.
        instances: of B images, at the images' size.
    """

    ids: list[str]
    instances: Sequence[Instances]


@runtime_checkable
class InstanceDetector(Protocol):
    """A network that turns the seeds of an image into instances, such as IRN."""

    def instances(
        self,
        image: Tensor,
        scores: Tensor,
        classes: Tensor,
        background: float = 0.25,
        *,
        cluster_threshold: float = 2.5,
        join: bool = False,
    ) -> Instances:
        """The instances of an image, at the size of the scores.

        Args:
            image: [1, 3, H, W].
            scores: [K, H', W'] of the image's classes.
            classes: [K] int64, their numbers 1..C.
            background: score of the background.
            cluster_threshold: shorter displacements, in pixels of the grid, are near zero.
            join: whether fragments with the same centroid are one instance.
        """


def check_instances(instances: Instances, num_classes: int, where: str, scored: bool = False) -> None:
    """Raise `InputError` unless all entries fit each other.

    Args:
        instances: of one image.
        num_classes: C, the largest label.
        where: the image, for the message.
        scored: whether every instance needs a score.
    """
    masks, labels = instances["masks"], instances["labels"]
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise InputError(f"{where}: masks must be [N, H, W] bool, got {tuple(masks.shape)} {masks.dtype}")
    if labels.is_floating_point() or ((labels < 1) | (labels > num_classes)).any():
        raise InputError(
            f"{where}: labels must be integers from 1 to {num_classes}, got {labels.tolist()}: correct them, "
            "or the number of classes"
        )
    if scored and "scores" not in instances:
        raise InputError(f"{where}: the predictions have no scores: give a confidence for each")
    number, pixels = masks.shape[:1], masks.shape[1:]
    expected = {"labels": number, "scores": number, "iscrowd": number, "ignore": pixels}
    given = {name: [*value.shape] for name, value in instances.items() if isinstance(value, Tensor)}
    for name, shape in expected.items():
        if given.get(name, [*shape]) != [*shape]:
            raise InputError(
                f"{where}: {name} must be {[*shape]} for masks of {given['masks']}, got {given[name]}"
            )
    if "scores" in instances and not instances["scores"].isfinite().all():
        raise InputError(f"{where}: scores hold NaN or infinite values: leave these instances out")


def check_pairs(preds: Sequence[Instances], target: Sequence[Instances], num_classes: int) -> None:
    """Raise `InputError` unless the predictions of some images fit their true instances.

    Args:
        preds: of each image, with scores.
        target: of each image.
        num_classes: C, the largest label.
    """
    if len(preds) != len(target):
        raise InputError(f"{len(preds)} images have predictions, but {len(target)} have true instances")
    for number, (pred, truth) in enumerate(zip(preds, target, strict=True)):
        check_instances(pred, num_classes, f"predictions of image {number}", scored=True)
        check_instances(truth, num_classes, f"true instances of image {number}")
        if pred["masks"].shape[1:] != truth["masks"].shape[1:]:
            sizes = [f"{each['masks'].shape[2]}x{each['masks'].shape[1]}" for each in (pred, truth)]
            raise InputError(
                f"image {number}: predicted masks are {sizes[0]} pixels, true ones {sizes[1]}: resize the "
                "predictions to the image"
            )
