"""Centre crops and ten crops of images that are scored with boxes."""

from typing import Any

import torch
from torch import Tensor

from fbr_plugin.data.dataset import SegmentationDataset
from fbr_plugin.data.transforms import MASK_KEYS
from fbr_plugin.errors import InputError


class CroppedDataset(SegmentationDataset):
    """Items of which the images, their maps and their boxes are cropped to a square at the centre.

    Args:
        args: those of `SegmentationDataset`.
        side: of the crop in pixels.
        ten_crop: add `crops` [10, 3, side, side]: four corners and the centre, and their mirror images.
        kwargs: those of `SegmentationDataset`.
    """

    def __init__(self, *args: Any, side: int, ten_crop: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.side = side
        self.ten_crop = ten_crop

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """The cropped item at an index; its `size` and `photo` are those of the whole image."""
        item = super().__getitem__(key)
        image: Tensor = item["image"]
        height, width = image.shape[-2:]
        if min(height, width) < self.side:
            raise InputError(
                f"{item['id']!r} is {width}x{height} pixels, too small for centre_crop={self.side}: lower "
                "it, or give the side to which images are resized before as eval_size"
            )
        top, left = round((height - self.side) / 2), round((width - self.side) / 2)
        whole = {name: item[name] for name in ("image", "object_mask", *MASK_KEYS) if name in item}
        item |= {name: cut(maps, top, left, self.side) for name, maps in whole.items()}
        if "boxes" in item:
            item["boxes"] = (item["boxes"] - torch.tensor([left, top] * 2)).clamp(0, self.side - 1)
        if self.ten_crop:
            item["crops"] = ten_crops(image, self.side)
        return item


def cut(maps: Tensor, top: int, left: int, side: int) -> Tensor:
    """The square [..., side, side] of maps: [..., H, W] whose first pixel is (top, left)."""
    return maps[..., top : top + side, left : left + side]


def ten_crops(image: Tensor, side: int) -> Tensor:
    """The corners and the centre of an image [3, H, W], and their mirror images: [10, 3, side, side]."""
    down, across = image.shape[-2] - side, image.shape[-1] - side
    places = [(0, 0), (0, across), (down, 0), (down, across), (round(down / 2), round(across / 2))]
    crops = torch.stack([cut(image, *place, side) for place in places])
    return torch.cat([crops, crops.flip(-1)])
