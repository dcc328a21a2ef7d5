"""Augmentation and normalisation, shared by every data module."""

import os
import random
from typing import Any, TypeAlias

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # albumentations asks the network for its version when imported

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.data.instances.arrays import InstanceArrays, to_tensors
from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.data.settings import Augmentation

Transform: TypeAlias = A.Compose

#: Mean and standard deviation of ImageNet's RGB channels in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: Keys of an item that are maps of integers on the image's grid, resampled to the nearest pixel.
MASK_KEYS = ("mask", "pseudo_label", "stuff")


class ShrinkLongSide(A.LongestMaxSize):
    """Shrinks images whose longer side exceeds `max_size`, and leaves others unchanged."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        scale = super().get_params_dependent_on_data(params, data)["scale"]
        return {"scale": min(scale, 1.0)}


def train_transform(settings: Augmentation) -> Transform:
    """Random size, flip, colour and crop, as the settings say."""
    steps: list[A.BasicTransform] = []
    if settings.long_side is not None:
        sides = list(range(settings.long_side[0], settings.long_side[1] + 1))
        steps.append(A.LongestMaxSize(max_size=sides, area_for_downscale="image"))
    if settings.rescale is not None:
        limits = (settings.rescale[0] - 1, settings.rescale[1] - 1)
        steps.append(A.RandomScale(scale_limit=limits, area_for_downscale="image", p=1.0))
    if settings.resize is not None:
        steps.append(A.Resize(height=settings.resize, width=settings.resize, area_for_downscale="image"))
    steps.append(A.HorizontalFlip(p=0.5))
    jitter, hue = settings.colour_jitter, settings.hue_jitter
    if jitter > 0 or hue > 0:
        amount = (max(0.0, 1 - jitter), 1 + jitter)
        steps.append(A.ColorJitter(brightness=amount, contrast=amount, saturation=amount, hue=hue, p=1.0))
    if settings.hsv_shift > 0:
        shift = (-settings.hsv_shift, settings.hsv_shift)
        steps.append(A.HueSaturationValue(shift, shift, shift, p=1.0))
    steps.append(
        A.RandomCrop(
            height=settings.crop_size,
            width=settings.crop_size,
            pad_if_needed=True,
            pad_position="random",
            fill=tuple(255 * value for value in MEAN),
            fill_mask=IGNORE,
        )
    )
    return _compose(steps)


def shift_transform(size: int, shift: int) -> Transform:
    """Random flip and a shift by up to `shift` pixels with the border reflected, for images of one size."""
    pad = A.Pad(padding=shift, border_mode=cv2.BORDER_REFLECT_101)
    return _compose([A.HorizontalFlip(p=0.5), pad, A.RandomCrop(height=size, width=size)])


def eval_transform(max_size: int | None = None, square: int | None = None) -> Transform:
    """Normalisation only, at the image's own size unless an argument changes it.

    Args:
        max_size: longest side in pixels; larger images and their masks are shrunk to it. None: any size.
        square: side of a square to which images of any shape are resized; None: no resizing.
    """
    steps: list[A.BasicTransform] = []
    if max_size is not None:
        steps.append(ShrinkLongSide(max_size=max_size, area_for_downscale="image"))
    if square is not None:
        steps.append(A.Resize(height=square, width=square, area_for_downscale="image"))
    return _compose(steps)


def _compose(steps: list[A.BasicTransform]) -> Transform:
    targets = dict.fromkeys(MASK_KEYS[1:], "mask")
    return A.Compose([*steps, A.Normalize(MEAN, STD)], additional_targets=targets)


def apply_transform(transform: Transform, item: dict[str, Any], seed: int) -> dict[str, Any]:
    """Transform an item's image and maps into tensors, with randomness that depends only on `seed`.

    Saliency is resampled bilinearly, and is 0 where the image is padded. Boxes are scaled with a resized
    image and rounded down, as in localization benchmarks; crops and flips do not support them. The mask of
    the objects may have another size than the image, and is resized from there. Instances of which no pixel
    is left are dropped.
    """
    maps = {key: item[key] for key in ("image", *MASK_KEYS) if key in item}
    if "instances" in item:
        maps["masks"] = _stack(item["instances"])
    maps = _draw(transform, maps, seed, cv2.INTER_NEAREST)
    masks = maps.pop("masks", None)
    image = torch.from_numpy(np.ascontiguousarray(maps.pop("image").transpose(2, 0, 1)))
    result: dict[str, Any] = {key: torch.from_numpy(value.astype(np.int64)) for key, value in maps.items()}
    if masks is not None:
        result["instances"] = to_tensors(_unstack(masks, item["instances"]))
    if "saliency" in item:
        # A separate pass, because the library has one interpolation for all masks of a pass.
        twin = {"image": item["image"], "mask": item["saliency"]}
        soft = torch.from_numpy(np.ascontiguousarray(_draw(transform, twin, seed, cv2.INTER_LINEAR)["mask"]))
        result["saliency"] = torch.where(soft == IGNORE, 0.0, soft)
    if "object_mask" in item:
        twin = {"image": np.zeros((*item["object_mask"].shape, 3), np.uint8), "mask": item["object_mask"]}
        mask = _draw(transform, twin, seed, cv2.INTER_NEAREST)["mask"]
        result["object_mask"] = torch.from_numpy(mask.astype(np.int64))
    if "boxes" in item:
        (height, width), (new_height, new_width) = item["image"].shape[:2], image.shape[1:]
        old, new = np.array([width, height] * 2), np.array([new_width, new_height] * 2)
        result["boxes"] = torch.from_numpy(item["boxes"] * new // old)
    return {**item, "image": image, **result}


def _stack(instances: InstanceArrays) -> NDArray[np.uint8]:
    """The masks of N instances and the ignored pixels: [N + 1, H, W], never empty."""
    masks = instances["masks"]
    ignore = instances.get("ignore", np.zeros(masks.shape[1:], bool))
    return np.concatenate([masks, ignore[None]]).astype(np.uint8)


def _unstack(stacked: NDArray[np.uint8], instances: InstanceArrays) -> InstanceArrays:
    """The instances of transformed masks [N + 1, H, W]; what was padded is ignored."""
    masks = stacked[:-1] == 1
    seen = masks.any((1, 2))
    kept: InstanceArrays = {
        "masks": masks[seen],
        "labels": instances["labels"][seen],
        "ignore": stacked[-1] > 0,
    }
    if "iscrowd" in instances:
        kept["iscrowd"] = instances["iscrowd"][seen]
    return kept


def _draw(transform: Transform, maps: dict[str, Any], seed: int, interpolation: int) -> dict[str, Any]:
    """Transform image and masks, the masks with one of OpenCV's interpolations.

    All steps share one random stream. The library's own seeding would start every step's stream from the
    same number, so that the random value of one step (a size) would predict the next (a crop's position).
    """
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    transform.set_mask_interpolation(interpolation)
    drawn: dict[str, Any] = transform(**maps)
    return drawn


def denormalise(image: Tensor) -> NDArray[np.uint8]:
    """A normalised image [..., 3, H, W] as uint8 RGB [..., H, W, 3]."""
    mean, std = image.new_tensor(MEAN)[:, None, None], image.new_tensor(STD)[:, None, None]
    pixels = (image.detach() * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.movedim(-3, -1).cpu().numpy()


def to_photo(image: Tensor) -> Tensor:
    """A normalised image [..., 3, H, W] as the original RGB photo in [0, 1], on the CPU."""
    return torch.from_numpy(denormalise(image)).movedim(-1, -3) / 255
