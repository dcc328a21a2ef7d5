"""VOC's pairs of palette PNGs: `SegmentationObject` numbers the objects, `SegmentationClass` the classes."""

from pathlib import Path

import numpy as np

from fbr_plugin.data.instances.arrays import InstanceArrays
from fbr_plugin.data.readers.images import IGNORE, read_mask, read_numbers, write_mask
from fbr_plugin.errors import InputError
from fbr_plugin.instances import Instances, check_instances

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"


def read_voc_instances(objects: str | Path, classes: str | Path, num_classes: int) -> InstanceArrays:
    """The true instances of an image: `masks`, `labels` and `ignore`.

    Pixels that are 255 in either file are ignored. The class of an object is that of its other pixels.

    Args:
        objects: file in `SegmentationObject`: 0 = background, 1.. = objects, 255 = ignore.
        classes: file in `SegmentationClass`: 0 = background, 1..C, 255 = ignore.
        num_classes: C.
    """
    numbers, labels = read_numbers(objects), read_mask(classes, num_classes)
    if numbers.shape != labels.shape:
        sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (numbers, labels)]
        raise InputError(
            f"{objects} is {sizes[0]} pixels, but {classes} is {sizes[1]}: take both from the same data set"
        )
    ignore = (numbers == IGNORE) | (labels == IGNORE)
    found = np.flatnonzero(np.bincount(numbers.ravel(), minlength=IGNORE)[:IGNORE])
    found = found[found > 0]
    pairs = numbers[~ignore].astype(np.int64) * IGNORE + labels[~ignore]
    table = np.bincount(pairs, minlength=IGNORE**2).reshape(IGNORE, IGNORE)  # pixels by object and class
    for number in found:
        own = np.flatnonzero(table[number]).tolist()
        if len(own) != 1 or own == [0]:
            raise InputError(
                f"{objects}: the pixels of object {number} are of "
                f"{f'the classes {own}' if len(own) > 1 else 'no class'} in {classes}, but need one: correct "
                f"either mask; {OBJECTS} belongs to VOC's {CLASSES}, not to the augmented masks"
            )
    return {
        "masks": (numbers == found[:, None, None]) & ~ignore,
        "labels": table[found].argmax(1),
        "ignore": ignore,
    }


def write_voc_instances(objects: str | Path, classes: str | Path, instances: Instances) -> None:
    """Write the instances of an image as a pair of palette PNGs.

    Where masks overlap, the higher score is on top; of equal scores, or without scores, the later one.

    Args:
        objects: file of the objects' numbers, 1 to N in the order of the instances.
        classes: file of their classes.
        instances: of an image; its pixels to ignore become 255.
    """
    check_instances(instances, IGNORE - 1, str(objects))
    masks, labels = instances["masks"].cpu().numpy(), instances["labels"].cpu().numpy()
    if len(masks) >= IGNORE:
        raise InputError(
            f"{objects}: {len(masks)} instances do not fit into a PNG, which numbers {IGNORE - 1}: leave out "
            "those of low scores, or write COCO's JSON"
        )
    scores = instances["scores"].cpu().numpy() if "scores" in instances else np.zeros(len(masks))
    painted = np.zeros((2, *masks.shape[1:]), np.uint8)
    for index in np.argsort(scores, kind="stable"):
        painted[:, masks[index]] = [[index + 1], [labels[index]]]
    if "ignore" in instances:
        painted[:, instances["ignore"].cpu().numpy()] = IGNORE
    for path, mask in zip((objects, classes), painted, strict=True):
        write_mask(path, mask)
