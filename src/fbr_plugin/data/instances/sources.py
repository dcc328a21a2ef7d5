"""Where the instances of a list of images come from: maps of objects, annotations, pseudo instances."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.instances.arrays import InstanceArrays
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.data.instances.voc import read_voc_instances
from fbr_plugin.data.readers.files import find_file, find_maps
from fbr_plugin.data.readers.instances import AnnotationFile, instances_of
from fbr_plugin.errors import InputError

TruthStages = Literal["none", "eval", "all"]
"""The stages that read true instances: none, validation and test, or these and training."""


class InstanceFiles(Protocol):
    """The files with the instances of a list of images."""

    @property
    def files(self) -> Mapping[str, Path]:
        """The file of each image, by its id."""

    def read(self, name: str) -> InstanceArrays:
        """The instances of an image."""


class ObjectMaps:
    """Maps of objects `ID.png` beside masks of classes, as VOC has them.

    Args:
        folder: folder of the maps.
        mask_dir: folder of the masks of classes.
        ids: the images' names without suffix.
        num_classes: C, the number of foreground classes.
    """

    def __init__(self, folder: Path, mask_dir: Path, ids: Iterable[str], num_classes: int) -> None:
        self.files = find_maps("object_dir", folder, ids, "map of objects ID.png")
        self.mask_dir = mask_dir
        self.num_classes = num_classes

    def read(self, name: str) -> InstanceArrays:
        """The objects of an image, and the pixels to ignore."""
        return read_voc_instances(self.files[name], find_file(self.mask_dir, name), self.num_classes)


class AnnotatedInstances:
    """The instances of COCO's annotation files, with their crowds.

    Args:
        files: the annotation file of each image, by its name.
        content: of each of these files.
    """

    def __init__(self, files: Mapping[str, Path], content: Mapping[Path, AnnotationFile]) -> None:
        self.files = files
        self.content = content
        if unknown := [name for name, path in files.items() if name not in content[path].sizes]:
            raise InputError(
                f"{files[unknown[0]]} lacks {len(unknown)} images of the list, the first is {unknown[0]}: "
                "take them off the list, or name the list of its images"
            )

    def read(self, name: str) -> InstanceArrays:
        """The objects and crowds of an image."""
        return instances_of(self.content[self.files[name]], name)


class PseudoInstances:
    """Pseudo instances in files `ID.json`, without those whose score is 0.

    Args:
        folder: folder of the files.
        ids: the images' names without suffix.
        num_classes: C, the number of foreground classes.
    """

    def __init__(self, folder: str | Path, ids: Iterable[str], num_classes: int) -> None:
        self.files = find_maps("pseudo_instance_dir", folder, ids, "file of instances ID.json", (".json",))
        self.num_classes = num_classes

    def read(self, name: str) -> InstanceArrays:
        """The instances of an image."""
        found = read_instances(self.files[name], self.num_classes)
        scored = found["scores"] > 0
        return {"masks": found["masks"][scored], "labels": found["labels"][scored]}


def fitting_instances(files: InstanceFiles, name: str, image: NDArray[np.uint8]) -> InstanceArrays:
    """The instances of an image [H, W, 3], which are of its size."""
    found = files.read(name)
    if (size := found["masks"].shape[1:]) != image.shape[:2]:
        raise InputError(
            f"{files.files[name]} is of {size[1]}x{size[0]} pixels, but the image {name!r} of "
            f"{image.shape[1]}x{image.shape[0]}: make its instances of this image, at its size"
        )
    return found
