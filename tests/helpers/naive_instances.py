"""Random instances, and their scores by sets of pixels and plain loops."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from fbr_plugin.instances import Instances

IOUS = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9)

Pair = tuple[Instances, Instances]


def random_pair(rng: np.random.Generator, num_classes: int, distinct: bool = False) -> Pair:
    """Predictions and true instances of a small image; predictions resemble the truth more or less.

    Args:
        rng: the source of all numbers.
        num_classes: C.
        distinct: whether true masks share no pixel, none is empty, and no two scores are equal.
    """
    height, width = rng.integers(4, 9, 2)
    objects, found = rng.integers(0, 5), rng.integers(0, 7)
    owner = rng.integers(0, objects + 1, (height, width))
    true = owner == np.arange(1, objects + 1)[:, None, None]
    if distinct:
        true = true[true.any((1, 2))]  # COCO counts an empty mask as an object
        objects = len(true)
    else:
        true |= rng.random(true.shape) < 0.1
    labels = rng.integers(1, num_classes + 1, objects)
    source = rng.integers(0, objects, found) if objects else np.zeros(0, int)
    masks = true[source] ^ (rng.random((len(source), height, width)) < rng.choice([0, 0.1, 0.3]))
    changed = rng.random(len(source)) < 0.2
    classes = np.where(changed, rng.integers(1, num_classes + 1, len(source)), labels[source])
    scores = rng.random(len(source)) if distinct else rng.integers(0, 4, len(source)) / 4
    truth: Any = {"masks": true, "labels": labels, "iscrowd": rng.random(objects) < 0.2}
    if not distinct:
        truth["ignore"] = rng.random((height, width)) < rng.choice([0, 0.2, 0.9])
    pred: Any = {"masks": masks, "labels": classes, "scores": scores.astype(np.float32)}
    return tensors(pred), tensors(truth)


def tensors(arrays: Any) -> Instances:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}  # type: ignore[return-value]


def pixels(mask: torch.Tensor) -> frozenset[int]:
    return frozenset(mask.flatten().nonzero().flatten().tolist())


def naive(pairs: list[Pair], num_classes: int) -> dict[str, float]:
    """The figures of `InstanceResult.scores`, as fractions."""
    images = [prepared(*pair) for pair in pairs]
    present = [c for c in range(1, num_classes + 1) if any(split(image, c)[1] for image in images)]
    ap = {least: mean([class_ap(images, c, least) for c in present]) for least in IOUS}
    published = [ap[least] for least in (0.25, 0.5, 0.7, 0.75)]
    overlaps = []
    for c in present:
        best = []
        for image in images:
            found, true, _ = split(image, c)
            best += [max([iou(mask, own) for mask, _ in found], default=0.0) for own in true]
        overlaps.append(mean(best))
    return {
        **dict(zip(("ap_25", "ap_50", "ap_70", "ap_75"), published, strict=True)),
        "ap_mean": mean(published),
        "ap_volume": mean([ap[tenth / 10] for tenth in range(1, 10)]),
        "abo": mean(overlaps),
    }


def prepared(pred: Instances, truth: Instances) -> tuple[list[Any], list[Any]]:
    """Sets of pixels without the ignored ones: (pixels, class, score) and (pixels, class, crowd)."""
    ignored = pixels(truth["ignore"]) if "ignore" in truth else frozenset()
    rows = zip(pred["masks"], pred["labels"].tolist(), pred["scores"].tolist(), strict=True)
    found = [(own - ignored, *rest) for mask, *rest in rows if not (own := pixels(mask)) or own - ignored]
    columns = zip(truth["masks"], truth["labels"].tolist(), truth["iscrowd"].tolist(), strict=True)
    true = [(own, *rest) for mask, *rest in columns if (own := pixels(mask) - ignored)]
    return found, true


def split(image: tuple[list[Any], list[Any]], c: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Of a class: predictions with their scores, true instances, crowds."""
    found, true = image
    return (
        [(mask, score) for mask, label, score in found if label == c],
        [mask for mask, label, crowd in true if label == c and not crowd],
        [mask for mask, label, crowd in true if label == c and crowd],
    )


def class_ap(images: list[Any], c: int, threshold: float) -> float:
    """The area under the envelope, in steps of 1 / number of true instances."""
    records, count = [], 0
    for image in images:
        found, true, crowds = split(image, c)
        count += len(true)
        taken = set()
        for mask, score in sorted(found, key=lambda each: -each[1]):
            overlaps = [iou(mask, own) for own in true]
            best = overlaps.index(max(overlaps)) if overlaps else None
            if best is not None and overlaps[best] >= threshold and best not in taken:
                taken.add(best)
                records.append((score, True))
            elif not any(mask and len(mask & crowd) / len(mask) >= threshold for crowd in crowds):
                records.append((score, False))
    curve: list[tuple[int, float]] = []  # for each right prediction: which one it is, and the precision there
    for cut in sorted({score for score, _ in records}, reverse=True):
        above = [right for score, right in records if score > cut]
        tied = [right for score, right in records if score == cut]
        for k in range(1, sum(tied) + 1):  # one in each of sum(tied) equal parts of the tied ones
            taken_so_far = len(above) + len(tied) * k / sum(tied)
            curve.append((sum(above) + k, (sum(above) + k) / taken_so_far))
    return sum(max([p for right, p in curve if right >= k], default=0.0) for k in range(1, count + 1)) / count


@lru_cache(1000)
def iou(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / max(1, len(one | other))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
