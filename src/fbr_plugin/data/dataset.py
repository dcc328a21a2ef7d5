"""The dataset behind all data modules: transformed items of any source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fbr_plugin.data.instances.arrays import to_tensors
from fbr_plugin.data.instances.sources import PseudoInstances, fitting_instances
from fbr_plugin.data.readers.files import find_file
from fbr_plugin.data.readers.images import IGNORE, check_same_size, read_mask
from fbr_plugin.data.readers.saliency import read_saliency, resize_saliency
from fbr_plugin.data.sources import Source
from fbr_plugin.data.transforms import Transform, apply_transform
from fbr_plugin.errors import InputError, WarnOnce

TINY = 8  # pixels: a shorter side is hardly that of a photo
Stage = Literal["fit", "validate", "test", "predict"]


class SegmentationDataset(Dataset[dict[str, Any]]):
    """Items of a source with pseudo labels and saliency maps added, transformed into tensors.

    Args:
        source: raw items.
        transform: transform of the image and its masks.
        training: whether a missing pseudo label is an error. Outside training, items may lack one, and hold
            the photo as it was read, along whose edges masks are refined, and its instances as they were
            read.
        pseudo_label_dir: folder of `ID.png` with 0..C and 255, at the images' size.
        saliency: the file of each id's saliency map; None for no saliency.
        pseudo_instances: files that give each item its instances; None for the source's, if it has any.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        training: bool,
        pseudo_label_dir: str | Path | None = None,
        saliency: Mapping[str, Path] | None = None,
        pseudo_instances: PseudoInstances | None = None,
    ) -> None:
        self.source = source
        self.transform = transform
        self.training = training
        self.pseudo_label_dir = None if pseudo_label_dir is None else Path(pseudo_label_dir)
        self.saliency = saliency
        self.pseudo_instances = pseudo_instances
        self._warn, self._warn_of_label, self._warn_of_size = WarnOnce(), WarnOnce(), WarnOnce()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """The item at an index, or at an (index, seed) pair where the transform is random.

        Its `size` is the height and width of the image as it was read: [2] int64; outside training `photo` is
        that image itself: [H, W, 3] uint8.
        """
        index, seed = key if isinstance(key, tuple) else (key, key)
        item = dict(self.source[index])
        height, width = item["image"].shape[:2]
        if min(height, width) < TINY:
            self._warn_of_size(
                f"the image {item['id']!r} is {width}x{height} pixels: is it, or any more this small, "
                "a damaged copy?"
            )
        if self.pseudo_label_dir is not None:
            path = find_file(self.pseudo_label_dir, item["id"])
            if self.training or path.exists():
                item["pseudo_label"] = read_mask(path, self.source.num_classes)
                check_same_size(path, item["pseudo_label"], item["image"])
                if self.training and (item["pseudo_label"] == IGNORE).all():
                    self._warn_of_label(
                        f"{path} is {IGNORE} at every pixel: nothing is learned from it, or from more like it"
                    )
        if self.saliency is not None:
            item["saliency"] = self._saliency(self.saliency[item["id"]], *item["image"].shape[:2])
        if self.pseudo_instances is not None:
            item["instances"] = fitting_instances(self.pseudo_instances, item["id"], item["image"])
        item["size"] = torch.tensor(item["image"].shape[:2])
        kept = {}
        if not self.training:
            item["photo"] = item["image"]
            kept = {"instances": to_tensors(item.pop("instances"))} if "instances" in item else {}
        if "label" in item:
            item["label"] = torch.from_numpy(item["label"])
        return apply_transform(self.transform, item, seed) | kept

    def check_instances(self) -> None:
        """Raise if not one image has an instance. This reads until the first that has one."""
        for index, name in enumerate(self.source.ids):
            if self.pseudo_instances is not None:
                found = self.pseudo_instances.read(name)
            else:
                found = self.source[index]["instances"]
            if len(found["labels"]):
                return
        raise InputError(
            f"not one of the {len(self)} training images has an instance of a score above 0: look at how "
            "their files were made, and at the list of training images"
        )

    def _saliency(self, path: Path, height: int, width: int) -> NDArray[np.float32]:
        """A saliency map at its image's size: [height, width]."""
        saliency = read_saliency(path)
        if saliency.shape == (height, width):
            return saliency
        self._warn(
            f"{path} is {saliency.shape[1]}x{saliency.shape[0]} pixels, but its image {width}x{height}: "
            "this map, and any more like it, is resized to its image"
        )
        return resize_saliency(saliency, height, width)


def photos(batch: dict[str, Any]) -> list[NDArray[np.uint8]]:
    """The photos [H, W, 3] of a batch as they were read, along whose edges masks are refined.

    Raises:
        ValueError: the batch has no photos.
    """
    if "photo" not in batch:
        raise InputError(
            f"the batch of {batch['id'][0]!r} has no 'photo', along whose edges masks are refined: let the "
            "data module add a list of its images as they were read, uint8 [H, W, 3]"
        )
    found: list[NDArray[np.uint8]] = batch["photo"]
    return found
