"""COCO 2014 with its 80 object classes."""

from collections import ChainMap
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.instances.sources import AnnotatedInstances
from fbr_plugin.data.readers.coco_categories import COCO_CATEGORIES
from fbr_plugin.data.readers.files import coco_number, find_file
from fbr_plugin.data.readers.instances import (
    AnnotationFile,
    labels_from_instances,
    rasterise_instances,
    read_annotations,
)
from fbr_plugin.data.readers.labels import ImageLabels, labels_from_pickle, read_ids
from fbr_plugin.data.settings import Lists
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.errors import InputError, MissingFileError

FOLDERS = ("train2014", "val2014")


class COCOSource(LayoutSource):
    """Source of images such as `train2014/COCO_train2014_000000000009.jpg`."""

    def image_path(self, name: str) -> Path:
        """The file of an image."""
        return self.image_dir / _folder(name) / f"{name}.jpg"


class COCODataModule(LayoutDataModule):
    """COCO 2014.

    Ids are full names such as `COCO_train2014_000000000009`. Lists may hold these or numbers such as `9` or
    `000000000009`; labels and masks are found under any of these names. If masks for validation and test are
    missing, `prepare_data` makes them from the instances, once. Crowds are left out; where objects overlap,
    the later one in the file is on top.

    An image without objects has all-zero labels. Of the two pairs of lists in circulation, the shorter one
    (82 081 and 40 137 ids instead of 82 783 and 40 504) leaves such images out.

    Args:
        root: folder that holds `train2014`, `val2014` and `annotations/instances_{train,val}2014.json`.
        lists: which images each stage takes, by files relative to `root` or absolute; `train2014` and
            `val2014` are all images of those folders.
        mask_dir: folder of masks, relative to `root` or absolute.
        label_source: `json` for the instances, `npy` for the file known as `cls_labels_coco.npy`, `masks`,
            or `none` for images without labels.
        label_file: the file that `npy` reads, relative to `root` or absolute.
        kwargs: pseudo labels, saliency maps, augmentation and loading.
    """

    source_class = COCOSource
    class_names = tuple(COCO_CATEGORIES.values())

    def __init__(
        self,
        root: str | Path,
        lists: Lists = Lists("train2014", "val2014"),
        mask_dir: str = "SegmentationClass",
        label_source: Literal["json", "npy", "masks", "none"] = "json",
        label_file: str | Path = "cls_labels_coco.npy",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, lists, mask_dir, object_dir="annotations", **kwargs)
        self.label_source = label_source
        self.list_dir = self.image_dir = self.root
        self.label_file = self.root / label_file
        # The annotation files have hundreds of MB: each is read once for labels and once for instances.
        self._labels: dict[str, ImageLabels] = {}
        self._objects: dict[Path, AnnotationFile] = {}

    def prepare_data(self) -> None:
        """Make the masks that are needed and missing."""
        super().prepare_data()
        predicting = self.trainer is not None and self.trainer.state.fn == "predict"
        if predicting and self.label_source != "masks":
            return
        more = self.calibration_ids() if self.calibrate else []
        for instances, names in self._unmade("fit", "validate", "predict", more=more).items():
            rasterise_instances(instances, self.mask_dir, names)

    def prepared(self, stage: Stage) -> bool:
        return not self._unmade(stage)

    def without_mask(self, ids: list[str]) -> list[str]:
        """Those of some images of which there is no mask, and none can be made."""
        missing = super().without_mask(ids)
        return [name for name in missing if not self._instances(_folder(name)).is_file()]

    def _unmade(self, *stages: Stage, more: Iterable[str] = ()) -> dict[Path, list[str]]:
        """The images of stages and others whose masks are needed and missing, by their file of instances."""
        names = set(more)
        for stage in stages:
            if stage in ("validate", "test") or self.label_source == "masks":
                with suppress(FileNotFoundError):  # the loader complains, where the stage is run
                    names.update(self.ids(stage))
        missing = [name for name in sorted(names) if not find_file(self.mask_dir, name).is_file()]
        unmade = {
            self._instances(folder): [name for name in missing if _folder(name) == folder]
            for folder in FOLDERS
        }
        return {
            instances: names
            for instances, names in unmade.items()
            if names and (instances.is_file() or self.label_source == "masks")
        }

    def listed(self, name: str) -> list[str]:
        if name in FOLDERS:
            found = sorted(each for each in self._names.values() if _folder(each) == name)
            if not found:
                raise MissingFileError(f"{self.image_dir / name} holds no image COCO_{name}_*.jpg")
            return found
        path = self.list_file(name)
        listed = read_ids(path)
        if wrong := [name for name in listed if coco_number(name) is None]:
            raise InputError(
                f"{path} holds {wrong[0]!r}: images of COCO 2014 are named by their number, or "
                "COCO_train2014_000000000009"
            )
        names = [self._names.get(int(name), "") if name.isdigit() else name for name in listed]
        if missing := [number for number, name in zip(listed, names, strict=True) if not name]:
            raise MissingFileError(
                f"{len(missing)} of the {len(listed)} numbers in {path} are of no image in "
                f"{' or '.join(FOLDERS)} of {self.image_dir}, the first is {missing[0]}"
            )
        return names

    def image_labels(self, ids: list[str]) -> ImageLabels:
        if self.label_source == "npy":
            found = labels_from_pickle(self.label_file, self.num_classes)
            by_number = {coco_number(name.removesuffix(".jpg")): label for name, label in found.items()}
            return {name: by_number[number] for name in ids if (number := coco_number(name)) in by_number}
        for folder in {_folder(name) for name in ids} - {*self._labels}:
            self._labels[folder] = labels_from_instances(self._instances(folder))
        return ChainMap(*self._labels.values())  # type: ignore[arg-type]

    def true_instances(self, ids: list[str]) -> AnnotatedInstances:
        """The annotations of some images, with crowds."""
        files = {name: self._instances(_folder(name)) for name in ids}
        for path in {*files.values()} - {*self._objects}:
            self._objects[path] = read_annotations(path)
        return AnnotatedInstances(files, self._objects)

    def _instances(self, folder: str) -> Path:
        return self.object_dir / f"instances_{folder}.json"

    @cached_property
    def _names(self) -> dict[int, str]:
        """The full name of each image by its number."""
        paths = (path for folder in FOLDERS for path in (self.image_dir / folder).glob("COCO_*.jpg"))
        return {number: path.stem for path in paths if (number := coco_number(path.stem)) is not None}


def _folder(name: str) -> str:
    """The folder in an image's name: train2014 in COCO_train2014_000000000009."""
    return name.split("_")[1]
