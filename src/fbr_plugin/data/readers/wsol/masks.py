"""Masks of the objects of an image: [H, W] uint8, 1 = object, 0 = background, 255 = ignored."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.files import find_maps
from fbr_plugin.data.readers.images import IGNORE, open_image, read_numbers


class ObjectMask(Protocol):
    """The files that hold the mask of an image's objects.

    Attributes:
        any_size: whether the mask may differ from its image in size.
    """

    any_size: ClassVar[bool]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, one or more; their content identifies the mask."""

    def read(self) -> NDArray[np.uint8]:
        """The mask [h, w]."""


ObjectMasks = Mapping[str, ObjectMask]


@dataclass(frozen=True)
class ClassMask:
    """A palette or grey PNG in VOC's format: 0 is background, 255 ignored, all else the object."""

    path: Path
    any_size: ClassVar[bool] = False

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> NDArray[np.uint8]:
        mask = read_numbers(self.path)
        return np.where(mask == IGNORE, mask, mask > 0).astype(np.uint8)


@dataclass(frozen=True)
class GreyMask:
    """A grey image, in which all above 0 is the object."""

    path: Path
    any_size: ClassVar[bool] = False

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> NDArray[np.uint8]:
        return _above_zero(self.path).astype(np.uint8)


@dataclass(frozen=True)
class InstanceMasks:
    """A mask of each object and of a region that is ignored where no object is, as in wsolevaluation.

    They have the size at which the image was annotated. Files that differ from the first are resized to it.

    Attributes:
        objects: images, in which all above 0 is an object.
        ignored: an image, in which all above 0 is ignored.
    """

    objects: tuple[Path, ...]
    ignored: Path
    any_size: ClassVar[bool] = True

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.objects, self.ignored)

    def read(self) -> NDArray[np.uint8]:
        maps = [_above_zero(path) for path in self.files]
        *objects, ignored = (_resize(own, *maps[0].shape) for own in maps)
        covered = np.any(objects, 0)
        return np.where(ignored & ~covered, IGNORE, covered).astype(np.uint8)


def find_object_masks(
    mask_dir: Path, ids: Iterable[str], kind: type[ClassMask] | type[GreyMask]
) -> ObjectMasks:
    """The mask `ID.png` of each image of a list, all of which must exist."""
    found = find_maps("mask_dir", mask_dir, ids, "mask ID.png")
    return {name: kind(path) for name, path in found.items()}


def _above_zero(path: Path) -> NDArray[np.bool_]:
    """Where an image of any mode is brighter than 0: [H, W]."""
    bright: NDArray[np.bool_] = np.asarray(open_image(path).convert("RGB")).max(-1) > 0
    return bright


def _resize(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """A mask resized to [height, width] by the nearest pixel."""
    if mask.shape == (height, width):
        return mask
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, np.bool_)
