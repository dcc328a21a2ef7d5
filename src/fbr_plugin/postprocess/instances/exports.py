"""Export of instances to one annotation file of COCO, and to VOC's pairs of PNGs."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fbr_plugin.data.instances.arrays import InstanceArrays, to_tensors
from fbr_plugin.data.instances.codes import encode, mask_tools
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.data.instances.voc import CLASSES, OBJECTS, write_voc_instances
from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, coco_image_id, find_file
from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.errors import InputError
from fbr_plugin.files import replacing
from fbr_plugin.postprocess.seed_files import existing_files


def coco_instances(
    folder: Path,
    ids: Sequence[str],
    path: Path,
    categories: Mapping[int, str] | None = None,
    image_dir: Path | None = None,
) -> None:
    """Merge instances into one annotation file of COCO, whole or not at all.

    Each of the `annotations` has a compressed run-length code, area, bbox, iscrowd 0 and its score. The file
    is written image by image, so that memory does not limit the number of instances.

    Args:
        folder: folder of the instances `ID.json`.
        ids: images to write.
        path: JSON file to write.
        categories: names of the categories by their ids, in the order of the classes 1..C, such as
            `COCO_CATEGORIES`; None numbers and names them as the classes that occur.
        image_dir: folder of the images, for the names of their files; None names `ID.jpg`.
    """
    numbers = [*categories] if categories else None
    images: dict[int | str, dict[str, Any]] = {}
    used: set[int] = set()
    written = 0
    files = existing_files(folder, ids, ".json", "instances")
    with replacing(path) as partial, partial.open("w") as file:
        file.write('{"annotations": [')
        for name, source in zip(tqdm(ids, "instances", disable=None), files, strict=True):
            found = read_instances(source, len(numbers) if numbers else sys.maxsize)
            if (image := coco_image_id(name)) in images:
                raise InputError(f"{name} and {images[image]['file_name']} are the same image: list it once")
            photo = f"{name}.jpg" if image_dir is None else find_file(image_dir, name, IMAGE_SUFFIXES).name
            height, width = found["masks"].shape[1:]
            images[image] = {"id": image, "file_name": photo, "height": height, "width": width}
            used.update(found["labels"].tolist())
            for record in _records(found, numbers):
                file.write(",\n" if written else "\n")
                file.write(json.dumps({"id": (written := written + 1), "image_id": image, **record}))
        names = categories or {number: f"class {number}" for number in range(1, max(used, default=0) + 1)}
        listed = [{"id": number, "name": name} for number, name in names.items()]
        file.write(f'],\n"images": {json.dumps([*images.values()])},\n"categories": {json.dumps(listed)}}}\n')


def _records(found: InstanceArrays, numbers: Sequence[int] | None) -> Iterator[dict[str, Any]]:
    """What COCO keeps of each instance of an image."""
    for mask, label, score in zip(
        found["masks"], found["labels"].tolist(), found["scores"].tolist(), strict=True
    ):
        code = encode(mask)
        yield {
            "category_id": numbers[label - 1] if numbers else label,
            "segmentation": code,
            "area": int(np.count_nonzero(mask)),
            "bbox": mask_tools().toBbox(code).tolist(),
            "iscrowd": 0,
            "score": score,
        }


def voc_instances(folder: Path, ids: Sequence[str], output: Path) -> None:
    """Write instances as pairs of palette PNGs, `SegmentationObject/ID.png` and `SegmentationClass/ID.png`.

    Args:
        folder: folder of the instances `ID.json`.
        ids: images to write.
        output: folder of both folders, created if missing.
    """
    files = existing_files(folder, ids, ".json", "instances")
    for name, source in zip(tqdm(ids, "instances", disable=None), files, strict=True):
        found = to_tensors(read_instances(source, IGNORE - 1))
        write_voc_instances(output / OBJECTS / f"{name}.png", output / CLASSES / f"{name}.png", found)
