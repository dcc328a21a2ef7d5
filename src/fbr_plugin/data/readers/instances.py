"""The instances of COCO 2014: image labels and semantic masks from its annotation files."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fbr_plugin.data.readers.coco_categories import COCO_CATEGORIES
from fbr_plugin.data.readers.files import find_file, read_once
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.data.readers.labels import ImageLabels
from fbr_plugin.errors import InputError, MissingFileError, MissingPackageError

_CLASSES = {category: number for number, category in enumerate(COCO_CATEGORIES, start=1)}

Record = dict[str, Any]


class Instances(NamedTuple):
    """An annotation file.

    Attributes:
        sizes: height and width of each image, by its name without suffix.
        objects: its annotations in the file's order, crowds left out; their `category_id` is a known one.
    """

    sizes: Mapping[str, tuple[int, int]]
    objects: Mapping[str, list[Record]]


def mask_tools() -> ModuleType:
    """The masks of pycocotools, which define what a polygon or a run-length code covers."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingPackageError(
            "COCO's polygons and run-length codes need pycocotools: pip install 'fbr_plugin[coco]'"
        ) from error
    tools: ModuleType = mask
    return tools


def read_instances(path: str | Path, outlines: bool = True) -> Instances:
    """Read and check an annotation file of COCO 2014.

    Args:
        path: `instances_train2014.json` or `instances_val2014.json`.
        outlines: whether the segmentations are wanted: without them it takes less than half the memory.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: unpack COCO's annotations_trainval2014.zip there")
    try:
        content = json.loads(path.read_bytes(), object_hook=None if outlines else _without_outline)
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): unpack it again") from error
    try:
        names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        sizes = {names[image["id"]]: (image["height"], image["width"]) for image in content["images"]}
        objects: dict[str, list[Record]] = {name: [] for name in sizes}
        for number, annotation in enumerate(content["annotations"]):
            image, category = annotation["image_id"], annotation["category_id"]
            if image not in names:
                raise InputError(
                    f"{path}: annotation {number} belongs to the image {image}, which is none of its images"
                )
            if category not in _CLASSES:
                raise InputError(
                    f"{path}: annotation {number} is of category {category}, which is none of COCO's 80: "
                    f"{[*COCO_CATEGORIES]}"
                )
            if not annotation.get("iscrowd"):
                objects[names[image]].append(annotation)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not hold COCO's instances ({type(error).__name__}: {error}): name "
            "instances_train2014.json or instances_val2014.json"
        ) from error
    return Instances(sizes, objects)


@read_once
def labels_from_instances(path: str | Path) -> ImageLabels:
    """Image labels [80] of all images of an annotation file by name; all 0 where there is no object."""
    labels = {}
    for name, objects in read_instances(path, outlines=False).objects.items():
        labels[name] = np.zeros(len(COCO_CATEGORIES), np.float32)
        labels[name][[_CLASSES[each["category_id"]] - 1 for each in objects]] = 1
    return labels


def rasterise_instances(path: str | Path, mask_dir: str | Path, names: Collection[str] | None = None) -> int:
    """Make semantic masks, palette PNGs `COCO_train2014_000000000009.png`, of an annotation file.

    Crowds are left out, and of objects that overlap the later one in the file is on top. A mask that exists
    is not made again, so that a call that was cut goes on.

    Args:
        path: `instances_train2014.json` or `instances_val2014.json`.
        mask_dir: folder of the masks, made if missing.
        names: the images whose masks are made; None makes all.

    Returns:
        The number of masks that were made.
    """
    tools = mask_tools()
    sizes, objects = read_instances(path)
    wanted = sizes.keys() if names is None else names
    if unknown := sorted({*wanted} - {*sizes}):
        raise InputError(f"{path} lacks {len(unknown)} of {len(wanted)} images, the first is {unknown[0]}")
    missing = [name for name in wanted if not find_file(mask_dir, name).is_file()]
    for name in tqdm(missing, f"masks of {Path(path).name}", disable=None):
        mask = np.zeros(sizes[name], np.uint8, order="F")
        for each in objects[name]:
            try:
                covered = _decode(tools, each["segmentation"], sizes[name])
            except Exception as error:
                raise InputError(
                    f"{path}: the segmentation of an object of {name} cannot be drawn "
                    f"({type(error).__name__}: {error})"
                ) from error
            np.copyto(mask, np.uint8(_CLASSES[each["category_id"]]), where=covered)
        write_mask(Path(mask_dir, f"{name}.png"), mask)
    return len(missing)


def _without_outline(record: Record) -> Record:
    record.pop("segmentation", None)
    return record


def _decode(tools: ModuleType, segmentation: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels [H, W] of polygons, or of a run-length code of numbers or of text."""
    if isinstance(segmentation, list):
        if short := [polygon for polygon in segmentation if len(polygon) < 6]:
            raise InputError(f"a polygon of {len(short[0])} numbers")  # pycocotools reads 4 as a box
        code = tools.merge(tools.frPyObjects(segmentation, *shape))
    elif isinstance(segmentation["counts"], list):
        code = tools.frPyObjects(segmentation, *segmentation["size"])
    else:
        code = segmentation
    covered: NDArray[np.uint8] = tools.decode(code)
    if covered.shape != shape or covered.sum(dtype=int) != tools.area(code):  # which leaves a rest undefined
        raise InputError(f"its runs do not fill an image of {shape[1]}x{shape[0]} pixels")
    return covered.view(np.bool_)
