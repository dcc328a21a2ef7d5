"""What a page shows of an image beside the photo: its truth, and the predictions of each folder."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.browse.pictures import instance_plane, seed_planes
from fbr_plugin.browse.runs import KINDS
from fbr_plugin.browse.scores import Counts, mask_counts, seed_counts
from fbr_plugin.data.instances.arrays import InstanceArrays
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.data.readers.files import find_file
from fbr_plugin.data.readers.images import IGNORE, check_same_size, read_mask
from fbr_plugin.metrics.segmentation import SeedSweep, SegmentationScore
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS
from fbr_plugin.postprocess.comparison import Predictions
from fbr_plugin.training.fbr_maps import GATE, MOST, NROI

Item = dict[str, Any]


class Shown(NamedTuple):
    """What a layer shows of one image.

    Attributes:
        planes: [H, W] maps of bytes: the classes of masks, classes and levels of seeds, or numbers of
            instances.
        counts: pixels from which the IoU is computed; empty without a true mask, and for instances.
        instances: class and score of each instance.
        classes: that may be seen.
    """

    planes: list[NDArray[np.uint8]]
    counts: Counts
    instances: list[tuple[int, float | None]]
    classes: set[int]


class Layer(NamedTuple):
    """One picture of each image.

    Attributes:
        name: its caption.
        kind: "masks", "seeds", "instances", or "gate" and "nroi" for maps of what FBR makes of an image.
        show: what it shows of an item of a source; None if there is nothing.
        sweep: the counts of the seeds so far; None for other kinds.
    """

    name: str
    kind: str
    show: Callable[[Item], Shown | None]
    sweep: SeedSweep | None = None


def open_layers(predictions: Sequence[Predictions], num_classes: int) -> list[Layer]:
    """The layers of a page: truth, true instances, and each folder of predictions."""
    layers = [
        Layer("truth", "masks", _truth),
        Layer("true instances", "instances", lambda item: _instances(item.get("instances"))),
    ]
    for each in predictions:
        kind = KINDS[each.suffix]
        sweep = SeedSweep(num_classes, BACKGROUND_THRESHOLDS) if kind == "seeds" else None
        layers.append(Layer(each.name, kind, _reader(each, num_classes, sweep), sweep))
    return layers


def _reader(folder: Predictions, num_classes: int, sweep: SeedSweep | None) -> Callable[[Item], Shown | None]:
    """What shows the predictions of a folder."""
    score = SegmentationScore(num_classes)

    def show(item: Item) -> Shown | None:
        image, truth = item["image"], item.get("mask")
        path = find_file(folder.folder, item["id"], (folder.suffix,))
        if not path.is_file():
            return None
        if sweep is not None:
            seed = folder.seed(item["id"], image, num_classes)
            counts = [] if truth is None else seed_counts(sweep, seed, truth)
            return Shown(seed_planes(seed), counts, [], {*(seed.keys + 1).tolist()})
        if (kind := KINDS[folder.suffix]) in (GATE, NROI):
            numbers = read_mask(path, MOST if kind == NROI else num_classes)
            check_same_size(path, numbers, image)
            return Shown([numbers], [], [], set())
        if kind == "masks":
            labels = folder.read(item["id"], image, num_classes)
            counts = [] if truth is None else mask_counts(score, labels, truth)
            return Shown([labels], counts, [], _classes(labels))
        found = read_instances(path, num_classes)
        check_same_size(path, np.empty(found["masks"].shape[1:]), image)
        return _instances(found)

    return show


def _truth(item: Item) -> Shown | None:
    mask = item.get("mask")
    return None if mask is None else Shown([mask], [], [], _classes(mask))


def _instances(found: InstanceArrays | None) -> Shown | None:
    if found is None:
        return None
    plane, named = instance_plane(found)
    return Shown([plane], [], named, {label for label, _ in named})


def _classes(labels: NDArray[np.uint8]) -> set[int]:
    """The foreground classes in a label map."""
    return {*np.unique(labels).tolist()} - {0, IGNORE}
