"""Export of masks and seeds to the formats of evaluation servers and other tools."""

import gzip
import json
import tarfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from fbr_plugin.contract import SeedStyle
from fbr_plugin.data.datamodules.voc import VOC_CLASS_NAMES
from fbr_plugin.data.instances.codes import encode, mask_tools
from fbr_plugin.data.readers.coco_categories import COCO_CATEGORIES
from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, coco_image_id, coco_number, find_file
from fbr_plugin.data.readers.images import (
    IGNORE,
    check_same_size,
    check_values,
    open_image,
    read_image,
    read_mask,
)
from fbr_plugin.data.readers.labels import read_ids
from fbr_plugin.errors import InputError
from fbr_plugin.files import check_file, check_folder, replacing
from fbr_plugin.postprocess.instances.exports import coco_instances, voc_instances
from fbr_plugin.postprocess.seed_files import common_suffix, existing_files, read_seed, seed_path, write_seed

SUBMISSION_FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def export(
    predictions: Path,
    list_file: Path,
    what: Literal["voc", "coco", "irn", "amn", "seam", "compact", "coco-instances", "voc-instances"],
    output: Path,
    image_dir: Path | None = None,
    coco_ids: bool = True,
) -> Path:
    """Convert masks (ID.png), seeds (ID.npy, ID.npz) or instances (ID.json) to another format.

    Args:
        predictions: folder of the masks, seeds or instances.
        list_file: list of ids, one per line, or of pairs of image and mask.
        what: `voc` packs masks into the tar.gz for PASCAL VOC's server, and `coco` writes them as a JSON of
            COCO's run-length codes; `irn`, `amn`, `seam` and `compact` convert seeds to that layout;
            `coco-instances` writes instances as one annotation file of COCO, `voc-instances` as folders
            `SegmentationObject` and `SegmentationClass`.
        output: the archive, the JSON file, or the folder to write.
        image_dir: folder of the images, to check the sizes of the masks for `voc`, and for the names of the
            files in `coco-instances`; None skips the check, and names ID.jpg.
        coco_ids: whether `coco` and `coco-instances` map the classes 1 to 80 to COCO's category ids, up to
            90; False keeps the numbers, of any classes.
    """
    predictions, output, ids = Path(predictions), Path(output), read_ids(Path(list_file))
    if what in ("voc", "coco", "coco-instances"):
        check_file(output)
    else:
        check_folder(output)
    if what in ("coco", "coco-instances") and coco_ids:
        _check_coco(ids)
    if what == "voc":
        submission(predictions, ids, output, image_dir)
    elif what == "coco":
        coco_rle(predictions, ids, output, coco_ids)
    elif what == "coco-instances":
        coco_instances(predictions, ids, output, COCO_CATEGORIES if coco_ids else None, image_dir)
    elif what == "voc-instances":
        voc_instances(predictions, ids, output)
    else:
        convert_seeds(predictions, ids, output, what)
    return output


def submission(mask_dir: Path, ids: Sequence[str], path: Path, image_dir: Path | None = None) -> None:
    """Pack masks for PASCAL VOC's evaluation server, whole or not at all.

    The archive depends only on the ids and the files: the same masks give the same bytes.

    Args:
        mask_dir: folder of palette PNGs `ID.png` with values 0 to 20; the server does not accept 255.
        ids: images of the test list.
        path: `.tar.gz` file to write.
        image_dir: folder of the images, to check the sizes of the masks; None skips the check.
    """
    masks = existing_files(mask_dir, ids, ".png", "masks")
    with (
        replacing(path) as partial,
        partial.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, mask in zip(tqdm(ids, "submission", disable=None), masks, strict=True):
            _check_submitted(mask, image_dir and find_file(image_dir, name, IMAGE_SUFFIXES))
            member = tarfile.TarInfo(f"{SUBMISSION_FOLDER}/{name}.png")
            member.size = mask.stat().st_size
            with mask.open("rb") as content:
                archive.addfile(member, content)


def coco_rle(mask_dir: Path, ids: Sequence[str], path: Path, coco_ids: bool = True) -> None:
    """Write masks as a list in COCO's results format, whole or not at all.

    There is one record per class of an image: `image_id`, `category_id`, `segmentation` (compressed
    run-length code), `score` 1.0, `area` in pixels and `bbox` (x, y, width, height). Background and 255 have
    none. `image_id` is COCO's number, 2007000032 for VOC's 2007_000032, and otherwise the id itself.

    Args:
        mask_dir: folder of masks `ID.png`.
        ids: images to write.
        path: JSON file to write.
        coco_ids: map the classes 1 to 80 to COCO's category ids, up to 90; False keeps the masks' numbers.
    """
    tools = mask_tools()
    numbers = [0, *COCO_CATEGORIES] if coco_ids else range(IGNORE)
    records, unlabelled = [], 0
    masks = existing_files(mask_dir, ids, ".png", "masks")
    for name, file in zip(tqdm(ids, "run-length codes", disable=None), masks, strict=True):
        mask = read_mask(file, len(numbers) - 1)
        unlabelled += IGNORE in mask
        for value in sorted({*np.unique(mask).tolist()} - {0, IGNORE}):
            code = encode(mask == value)
            record = {
                "image_id": coco_image_id(name),
                "category_id": numbers[value],
                "segmentation": code,
                "score": 1.0,
                "area": int(tools.area(code)),
                "bbox": tools.toBbox(code).tolist(),
            }
            records.append(record)
    if unlabelled:
        warnings.warn(
            f"{unlabelled} of {len(ids)} masks in {mask_dir} hold {IGNORE}: these pixels are in no record, "
            "as if they were background; export masks with a class at every pixel",
            stacklevel=2,
        )
    with replacing(path) as partial:
        partial.write_text(json.dumps(records))


def convert_seeds(seed_dir: Path, ids: Sequence[str], output_dir: Path, style: SeedStyle) -> None:
    """Convert seeds of any layout to another one.

    Args:
        seed_dir: folder of the seeds.
        ids: images to convert.
        output_dir: another folder, created if missing.
        style: layout to write; `amn` needs seeds with a background.
    """
    suffix = common_suffix(seed_dir, ids)
    if suffix == ".png":
        raise InputError(f"{seed_dir} holds masks, which cannot become seeds: name a folder of seeds")
    if Path(seed_dir).resolve() == Path(output_dir).resolve():
        raise InputError(f"{output_dir} holds the seeds to convert: write the new ones to another folder")
    seeds = existing_files(seed_dir, ids, suffix, "seeds")
    for name, path in zip(tqdm(ids, f"{style} seeds", disable=None), seeds, strict=True):
        write_seed(seed_path(output_dir, name, style), read_seed(path), style)


def _check_coco(ids: Sequence[str]) -> None:
    """Raise if no id is of an image of COCO, but the classes would get the category ids of COCO's."""
    if all(coco_number(name) is None for name in ids):
        raise InputError(
            f"no id is of an image of COCO, the first is {ids[0]!r}, and the classes would become COCO's: "
            "give --coco_ids false, which keeps their numbers"
        )


def _check_submitted(path: Path, image: Path | None) -> None:
    """Raise for a mask that the server would reject or misread."""
    opened = open_image(path)
    if opened.mode != "P":
        raise InputError(
            f"{path} is a {opened.mode} image: the server takes palette PNGs, as `predict` writes"
        )
    mask = np.asarray(opened)
    check_values(path, mask, len(VOC_CLASS_NAMES))
    if (mask == IGNORE).any():
        raise InputError(f"{path} holds {IGNORE}: the server wants a class, 0 to 20, at every pixel")
    if image is not None:
        check_same_size(path, mask, read_image(image))
