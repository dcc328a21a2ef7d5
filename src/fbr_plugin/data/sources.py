"""Sources of items: the protocol, and the images of a list on disk."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.instances.sources import InstanceFiles, fitting_instances
from fbr_plugin.data.readers.boxes import Boxes, clip_boxes
from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, find_file
from fbr_plugin.data.readers.images import check_same_size, read_image, read_mask
from fbr_plugin.data.readers.labels import ImageLabels, labels_of_mask
from fbr_plugin.data.readers.stuff import StuffMaps
from fbr_plugin.data.readers.wsol.masks import ObjectMask, ObjectMasks
from fbr_plugin.errors import InputError, MissingFileError, WarnOnce

_ASPECT = 1.05  # largest ratio of a mask's shape to its image's that rounding explains


class LayoutSource:
    """Images of a list, read and checked one at a time.

    Args:
        ids: the images' names without suffix.
        image_dir: folder of `ID.jpg`, `ID.jpeg` or `ID.png`.
        mask_dir: folder of `ID.png`; None for no masks.
        num_classes: C, the number of foreground classes.
        labels: image labels by id; None derives them from the masks, if there are any.
        boxes: boxes by id, which are clipped to their image with one warning; None for no boxes.
        object_masks: masks of the objects of localization by id; None for no masks.

    Attributes:
        stuff: maps of the stuff around the objects; None for no maps.
        instances: files of the true instances; None for none.
    """

    def __init__(
        self,
        ids: list[str],
        image_dir: Path,
        mask_dir: Path | None,
        num_classes: int,
        labels: ImageLabels | None,
        boxes: Boxes | None = None,
        object_masks: ObjectMasks | None = None,
    ) -> None:
        self.ids = ids
        self.image_dir = image_dir
        self.mask_dir = mask_dir
        self.num_classes = num_classes
        self.labels = labels
        self.boxes = boxes
        self.object_masks = object_masks
        self.stuff: StuffMaps | None = None
        self.instances: InstanceFiles | None = None
        self._warn, self._warn_of_shape, self._warn_of_label = WarnOnce(), WarnOnce(), WarnOnce()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.ids[index]
        item: dict[str, Any] = {"id": name, "image": read_image(self._existing(name))}
        if self.mask_dir is not None:
            path = find_file(self.mask_dir, name)
            item["mask"] = read_mask(path, self.num_classes)
            check_same_size(path, item["mask"], item["image"])
        if self.labels is not None:
            item["label"] = self.labels[name]
            if self.mask_dir is not None:
                self._compare(path, labels_of_mask(item["mask"], self.num_classes), item["label"])
        elif self.mask_dir is not None:
            item["label"] = labels_of_mask(item["mask"], self.num_classes)
            if not item["label"].any():
                self._warn_of_label(
                    f"{path} holds no class, only 0 for the background and 255: the image "
                    "has no label, nor has any more like it, as the image labels come from the masks"
                )
        if self.stuff is not None:
            item["stuff"] = self.stuff.read(name)
            check_same_size(self.stuff.files[name], item["stuff"], item["image"])
        if self.instances is not None:
            item["instances"] = fitting_instances(self.instances, name, item["image"])
        if self.boxes is not None:
            item["boxes"] = self._inside(name, self.boxes[name], item["image"])
        if self.object_masks is not None:
            item["object_mask"] = self._object_mask(self.object_masks[name], item["image"])
        return item

    def image_path(self, name: str) -> Path:
        """The file of an image."""
        return find_file(self.image_dir, name, IMAGE_SUFFIXES)

    def _existing(self, name: str) -> Path:
        """The file of an image; raise if there is none in a format that is read."""
        path = self.image_path(name)
        if not path.is_file() and (others := [each.name for each in self.image_dir.glob(f"{name}.*")]):
            read = ", ".join(suffix for suffix in IMAGE_SUFFIXES if suffix.islower())
            raise MissingFileError(
                f"{self.image_dir} holds {others[0]}, but images are read from {read}: convert it"
            )
        return path

    def _compare(self, path: Path, found: NDArray[np.float32], label: NDArray[np.float32]) -> None:
        """Warn of a mask with classes [C] that the image's label [C] lacks."""
        if (found > label).any():
            numbers = [1 + np.flatnonzero(each) for each in (found, label)]
            self._warn_of_label(
                f"{path} holds the classes {numbers[0].tolist()}, but the image labels name "
                f"{numbers[1].tolist()}: correct one of them, and any more that differ; is the order of the "
                "class names that of the masks?"
            )

    def _inside(self, name: str, boxes: NDArray[np.int64], image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The boxes [n, 4] of an image, clipped to it."""
        clipped = clip_boxes(name, boxes, image)
        if (clipped != boxes).any():
            self._warn(
                f"{name}: some of the boxes {boxes.tolist()} reach beyond the image of {image.shape[1]}x"
                f"{image.shape[0]} pixels: these, and any others like them, are clipped to the image"
            )
        return clipped

    def _object_mask(self, files: ObjectMask, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mask of an image's objects, of another size than the image where that is usual."""
        mask, path = files.read(), files.files[0]
        if not files.any_size:
            check_same_size(path, mask, image)
        wide, high = mask.shape[1] / image.shape[1], mask.shape[0] / image.shape[0]
        if max(wide, high) > _ASPECT * min(wide, high):
            self._warn_of_shape(
                f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels, but its image {image.shape[1]}x"
                f"{image.shape[0]}: this mask, and any more of another shape, is stretched to its image; is "
                "it another image's?"
            )
        return mask


class ListedSource:
    """Some items of other sources.

    Args:
        ids: of the items.
        sources: where they are looked for, in this order.
    """

    def __init__(self, ids: list[str], *sources: "Source") -> None:
        self.ids = ids
        self.num_classes = sources[0].num_classes
        known = {name: (each, index) for each in sources[::-1] for index, name in enumerate(each.ids)}
        if unknown := [name for name in ids if name not in known]:
            raise InputError(
                f"{len(unknown)} of the {len(ids)} ids on the list are of no image in the data, the first is "
                f"{unknown[0]}: ids are such as {sources[0].ids[0]}"
            )
        self._items = [known[name] for name in ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, own = self._items[index]
        return source[own]


class Source(Protocol):
    """Raw items: `id` str, `image` uint8 [H, W, 3]; optional `label` float32 [C], maps uint8 [H, W],
    `saliency` float32 [H, W], `boxes` int64 [n, 4], `object_mask` uint8 [h, w] of its own size, `instances`
    as `InstanceArrays`.
    """

    num_classes: int

    @property
    def ids(self) -> list[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...
