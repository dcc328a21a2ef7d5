"""The data set that is checked: its lists, folders and classes, as its data module describes them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.datamodules.coco import FOLDERS, COCODataModule
from fbr_plugin.data.datamodules.folder import FolderDataModule
from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.datamodules.wsol import WSOLDataModule
from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, find_file
from fbr_plugin.data.readers.wsol.folder import FolderLayout
from fbr_plugin.data.readers.wsol.layout import OneClass
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.errors import InputError

Labels = dict[str, NDArray[np.float32]]


@dataclass
class Subject:
    """A data set on disk.

    Attributes:
        data: its data module.
        names: what the data module calls each list; "train" and "val" come first.
        lists: the file of each list; None for a list that is no file.
        image_dirs: folders of the photos.
        image_path: the file of a photo by its id.
        mask_dir: folder of masks; None for none.
        label_source: `csv`, `npy`, `xml`, `json`, `masks` or `none`, as the data modules call it.
        label_file: the file or folder of the image labels.
        unusable: ids without a photo that can be read, or without image labels; filled by the checks.
        ids: the ids of each list, as their files are spelled; filled by the checks of the lists.
        misspelt: the right spelling of ids that a list spells unlike their files.
        labels: image labels [C] by id; filled by the checks of the labels.
    """

    data: WSSSDataModule
    names: dict[str, str]
    lists: dict[str, Path | None]
    image_dirs: tuple[Path, ...]
    image_path: Callable[[str], Path]
    mask_dir: Path | None = None
    label_source: str = "none"
    label_file: Path | None = None
    unusable: set[str] = field(default_factory=set)
    ids: dict[str, list[str]] = field(default_factory=dict)
    misspelt: dict[str, str] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes."""
        return self.data.class_names

    @property
    def is_coco(self) -> bool:
        """Whether lists hold COCO's numbers, and images without objects are usual."""
        return isinstance(self.data, COCODataModule)

    @property
    def is_own(self) -> bool:
        """Whether these are the user's own photos, each of which is meant to be on a list."""
        data = self.data
        own_layout = isinstance(data, WSOLDataModule) and isinstance(data.layout, FolderLayout)
        return own_layout or isinstance(data, FolderDataModule)

    @property
    def classes_file(self) -> Path | None:
        """The file of the class names, if the user writes it."""
        if isinstance(self.data, LayoutDataModule | WSOLDataModule) and self.is_own:
            return self.data.root / "classes.txt"
        return None

    def all_ids(self) -> list[str]:
        """The ids of all lists, each once."""
        return list(dict.fromkeys(name for ids in self.ids.values() for name in ids))


def subject_of(data: WSSSDataModule) -> Subject:
    """The data set of a data module.

    Raises:
        ValueError: the data module reads no photos from disk.
    """
    if isinstance(data, LayoutDataModule):
        return _segmentation(data)
    if isinstance(data, WSOLDataModule):
        return _localization(data)
    raise InputError(
        f"{type(data).__name__} reads no photos from disk: check a FolderDataModule, VOCDataModule, "
        "COCODataModule, WSOLDataModule, or a subclass of one of them"
    )


def _segmentation(data: LayoutDataModule) -> Subject:
    """The data set of images and masks in the folders of PASCAL VOC, or of COCO."""
    names = {"train": data.lists["fit"], "val": data.lists["validate"]}
    if data.lists["predict"] not in names.values():
        names["predict"] = data.lists["predict"]
    whole = FOLDERS if isinstance(data, COCODataModule) else ()
    lists = {key: None if name in whole else data.list_file(name) for key, name in names.items()}
    folders = tuple(data.root / name for name in whole) or (data.image_dir,)
    image_path = data.source_class([], data.image_dir, None, data.num_classes, None).image_path
    mask_dir = data.mask_dir if data.mask_dir.is_dir() else None
    label_file = data.root / "Annotations" if data.label_source == "xml" else vars(data).get("label_file")
    return Subject(data, names, lists, folders, image_path, mask_dir, data.label_source, label_file)


def _localization(data: WSOLDataModule) -> Subject:
    """The data set of localization; of data sets as distributed, lists and labels are those that are read."""
    layout = data.layout
    if isinstance(layout, FolderLayout):
        chosen = {"train": layout.train_list, "val": layout.test_list}
        folder = data.root / "ImageSets" / "Main"
        lists = {key: folder / f"{name.removesuffix('.txt')}.txt" for key, name in chosen.items()}
        names = {key: str(path) for key, path in lists.items()}
        folder = data.root / "JPEGImages"
        table = data.root / "labels.csv"
        source, file = ("csv", table) if table.exists() else ("xml", data.root / "Annotations")
        image_path = LayoutSource([], folder, None, data.num_classes, None).image_path
        return Subject(data, names, {**lists}, (folder,), image_path, None, source, file)
    splits = {key: layout.split(key == "train", False) for key in ("train", "val")}
    ids = {key: list(split.classes) for key, split in splits.items()}
    folders = {name: split.image_dir for split in splits.values() for name in split.classes}
    labels = {
        name: label
        for split in splits.values()
        for name, label in OneClass(split.classes, data.num_classes).items()
    }

    def find(name: str) -> Path:
        return find_file(folders[name], name, IMAGE_SUFFIXES)

    return Subject(
        *(data, {}, dict.fromkeys(ids), tuple(dict.fromkeys(folders.values())), find),
        ids=ids,
        labels=labels,
    )
