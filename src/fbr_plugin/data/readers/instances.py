"""COCO's annotation files: instances, and the image labels and semantic masks made from them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from fbr_plugin.data.instances.arrays import InstanceArrays
from fbr_plugin.data.instances.codes import decode_all, mask_tools
from fbr_plugin.data.readers.coco_categories import COCO_CATEGORIES
from fbr_plugin.data.readers.files import find_file, read_json, read_once
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.data.readers.labels import ImageLabels
from fbr_plugin.data.readers.limits import check_name
from fbr_plugin.errors import InputError, short

Record = dict[str, Any]


class AnnotationFile(NamedTuple):
    """An annotation file.

    Attributes:
        path: where it was read.
        sizes: height and width of each image, by its name without suffix.
        objects: its annotations, with crowds, in the file's order; each has a known `category_id`.
        classes: the number 1..C of each category's id.
        class_names: names of the C classes.
    """

    path: Path
    sizes: Mapping[str, tuple[int, int]]
    objects: Mapping[str, list[Record]]
    classes: Mapping[int, int]
    class_names: tuple[str, ...]


def read_annotations(
    path: str | Path, outlines: bool = True, categories: Mapping[int, str] | None = COCO_CATEGORIES
) -> AnnotationFile:
    """Read and check an annotation file of COCO 2014, or in its format.

    Args:
        path: `instances_train2014.json`, `instances_val2014.json`, or a file of yours.
        outlines: whether to keep the segmentations; without them, less than half the memory is needed.
        categories: names of the categories by their ids, which in ascending order are the classes 1..C; None
            takes those that the file lists.
    """
    path = Path(path)
    hook = None if outlines else _without_outline
    remedy = "unpack COCO's annotations_trainval2014.zip" if categories else "write COCO's annotations"
    content = read_json(path, remedy, hook)
    try:
        known = categories or {each["id"]: str(each["name"]) for each in content["categories"]}
        classes = {category: number for number, category in enumerate(sorted(known), start=1)}
        names: dict[int | str, str] = {}
        sizes: dict[str, tuple[int, int]] = {}
        for image in content["images"]:
            name = check_name(path, Path(image["file_name"]).stem)
            if image["id"] in names or name in sizes:
                raise InputError(
                    f"{path} lists the image {short(name)} with id {short(image['id'])} twice: leave one"
                )
            names[image["id"]], sizes[name] = name, (image["height"], image["width"])
        objects: dict[str, list[Record]] = {name: [] for name in sizes}
        for number, annotation in enumerate(content["annotations"]):
            image, category = annotation["image_id"], annotation["category_id"]
            if image not in names:
                raise InputError(
                    f"{path}: annotation {number} belongs to the image {short(image)}, which the file does "
                    "not list"
                )
            if category not in classes:
                whose = "COCO's 80" if categories is COCO_CATEGORIES else f"the {len(known)} categories"
                raise InputError(
                    f"{path}: annotation {number} is of category {short(category)}, which is not one of "
                    f"{whose}: {short([*classes])}"
                )
            objects[names[image]].append(annotation)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not hold COCO's instances ({type(error).__name__}: {short(error)}): name "
            "instances_train2014.json or instances_val2014.json, or a file with images, annotations and "
            "categories"
        ) from error
    return AnnotationFile(path, sizes, objects, classes, tuple(known[category] for category in classes))


def instances_of(file: AnnotationFile, name: str, crowds: bool = True) -> InstanceArrays:
    """The instances of an image: `masks`, `labels` and `iscrowd`.

    Args:
        file: read with outlines.
        name: of the image, without suffix.
        crowds: whether to keep groups of objects.
    """
    objects = [each for each in file.objects[name] if crowds or not each.get("iscrowd")]
    codes = [each.get("segmentation") for each in objects]
    return {
        "masks": decode_all(codes, file.sizes[name], str(file.path), name),
        "labels": np.array([file.classes[each["category_id"]] for each in objects], np.int64),
        "iscrowd": np.array([bool(each.get("iscrowd")) for each in objects], np.bool_),
    }


@read_once
def labels_from_instances(path: str | Path) -> ImageLabels:
    """Image labels [80] of all images in an annotation file, by name; all 0 for an image without objects."""
    file = read_annotations(path, outlines=False)
    labels = {}
    for name, objects in file.objects.items():
        labels[name] = np.zeros(len(file.classes), np.float32)
        present = [file.classes[each["category_id"]] - 1 for each in objects if not each.get("iscrowd")]
        labels[name][present] = 1
    return labels


def rasterise_instances(path: str | Path, mask_dir: str | Path, names: Collection[str] | None = None) -> int:
    """Make semantic masks, palette PNGs `COCO_train2014_000000000009.png`, from an annotation file.

    Crowds are left out; where objects overlap, the later one in the file is on top. Existing masks are kept,
    so that an interrupted call can be repeated.

    Args:
        path: `instances_train2014.json` or `instances_val2014.json`.
        mask_dir: folder of the masks, created if missing.
        names: the images whose masks are made; None makes all masks.

    Returns:
        The number of masks that were made.
    """
    mask_tools()
    file = read_annotations(path)
    sizes = file.sizes
    wanted = sizes.keys() if names is None else names
    if unknown := sorted({*wanted} - {*sizes}):
        raise InputError(f"{path} lacks {len(unknown)} of {len(wanted)} images, the first is {unknown[0]}")
    missing = [name for name in wanted if not find_file(mask_dir, name).is_file()]
    for name in tqdm(missing, f"masks of {Path(path).name}", disable=None):
        instances = instances_of(file, name, crowds=False)
        mask = np.zeros(sizes[name], np.uint8)
        for covered, label in zip(instances["masks"], instances["labels"], strict=True):
            mask[covered] = label
        write_mask(Path(mask_dir, f"{name}.png"), mask)
    return len(missing)


def _without_outline(record: Record) -> Record:
    record.pop("segmentation", None)
    return record
