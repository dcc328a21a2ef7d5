"""A JSON file `ID.json` for the instances of each image.

It holds the `image` ID, its `size` [H, W], and `instances`: for each its `class` 1..C, its `score`, and its
`segmentation`, COCO's compressed run-length code.
"""

import json
import sys
from pathlib import Path

import numpy as np

from fbr_plugin.data.instances.arrays import InstanceArrays
from fbr_plugin.data.instances.codes import decode_all, encode
from fbr_plugin.data.readers.files import read_json
from fbr_plugin.errors import InputError, short
from fbr_plugin.files import write_text
from fbr_plugin.instances import Instances, check_instances

_LARGEST = float(np.finfo(np.float32).max)


def instances_path(folder: str | Path, name: str) -> Path:
    """The file of an image's instances."""
    return Path(folder, f"{name}.json")


def write_instances(path: str | Path, instances: Instances) -> None:
    """Write the instances of an image, whole or not at all.

    Args:
        path: `ID.json`, as named by `instances_path`.
        instances: `masks`, `labels` and `scores`.
    """
    path = Path(path)
    check_instances(instances, sys.maxsize, str(path), scored=True)
    masks = instances["masks"].cpu().numpy()
    rows = zip(instances["labels"].tolist(), instances["scores"].tolist(), masks, strict=True)
    records = [{"class": label, "score": score, "segmentation": encode(mask)} for label, score, mask in rows]
    content = {"image": path.stem, "size": [*masks.shape[1:]], "instances": records}
    write_text(path, json.dumps(content))


def read_instances(path: str | Path, num_classes: int) -> InstanceArrays:
    """Read the instances of an image: `masks`, `labels` and `scores`.

    Args:
        path: `ID.json`.
        num_classes: C; a class above it is an error.
    """
    path = Path(path)
    content = read_json(path, "write the instances of the image")
    try:
        name, size, records = content["image"], content["size"], content["instances"]
        labels = [record["class"] for record in records]
        scores = [record["score"] for record in records]
        codes = [record["segmentation"] for record in records]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not hold the instances of an image ({type(error).__name__}: {short(error)}): it "
            "needs image, size and instances, each with class, score and segmentation; write it again"
        ) from error
    if name != path.stem:
        raise InputError(f"{path} holds the instances of the image {short(repr(name))}: rename or remove it")
    for index, (label, score) in enumerate(zip(labels, scores, strict=True), start=1):
        if type(label) is not int or not 1 <= label <= num_classes:
            raise InputError(
                f"{path}: instance {index} is of class {short(repr(label))}, but the classes are 1 to "
                f"{num_classes}: correct it, or the number of classes"
            )
        if type(score) not in (int, float) or not abs(score) <= _LARGEST:
            raise InputError(
                f"{path}: instance {index} has the score {short(repr(score))}: it must be a finite number"
            )
    masks = decode_all(codes, size, str(path), path.stem)
    return {"masks": masks, "labels": np.array(labels, np.int64), "scores": np.array(scores, np.float32)}
