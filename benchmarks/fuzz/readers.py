"""The readers, each with the valid files that are damaged for it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jsonargparse import Namespace

from benchmarks.fuzz import samples
from fbr_plugin.baselines.encoders.small import SmallEncoder
from fbr_plugin.baselines.encoders.weights import load_weights
from fbr_plugin.baselines.released.convert import read_released
from fbr_plugin.browse.runs import open_runs
from fbr_plugin.cli.lightning.checkpoint_settings import checkpoint_settings
from fbr_plugin.cli.options.configs import find_config
from fbr_plugin.cli.sweep import _parse
from fbr_plugin.data.datamodules.folder import FolderDataModule
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.data.readers.boxes import object_boxes
from fbr_plugin.data.readers.images import read_image, read_mask
from fbr_plugin.data.readers.instances import instances_of, labels_from_instances, read_annotations
from fbr_plugin.data.readers.labels import (
    labels_from_csv,
    labels_from_pickle,
    labels_from_xml,
    read_class_names,
    read_ids,
    read_objects,
)
from fbr_plugin.data.readers.saliency import read_saliency
from fbr_plugin.data.readers.wsol.aircraft import AircraftLayout
from fbr_plugin.data.readers.wsol.cars import CarsLayout
from fbr_plugin.data.readers.wsol.cub import CUBLayout
from fbr_plugin.data.readers.wsol.dogs import DogsLayout
from fbr_plugin.data.readers.wsol.ilsvrc import ILSVRCLayout
from fbr_plugin.data.readers.wsol.layout import Layout
from fbr_plugin.data.readers.wsol.openimages import OpenImagesLayout
from fbr_plugin.data.tables.sources import read_classes_of_images
from fbr_plugin.doctor.checkup import check
from fbr_plugin.doctor.findings import Report, table
from fbr_plugin.doctor.fixes import mend
from fbr_plugin.experiments.results import known
from fbr_plugin.postprocess.seed_files import read_seed


class Reader(NamedTuple):
    """A reader of files.

    Attributes:
        write: writes valid files into a folder.
        files: those that are damaged, one at a time.
        read: reads them all, given the damaged one.
    """

    write: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], object]


def _image(path: Path) -> object:
    return read_mask(path, 20) if path.stem == "mask" else read_image(path)


def _list(path: Path) -> object:
    return read_class_names(path) if path.stem == "classes" else read_ids(path)


def _table(path: Path) -> object:
    return labels_from_csv(path, ("cat", "dog")), read_classes_of_images("csv", path, None)


def _xml(path: Path) -> object:
    labels_from_xml(path.parent, ["a"], ("cat", "dog"))
    return object_boxes(path, read_objects(path), 1)


def _coco(path: Path) -> object:
    file = read_annotations(path, categories=None)
    labels_from_instances(path)
    read_classes_of_images("coco", path, None)
    return [instances_of(file, name) for name in file.sizes]


def _checkpoint(path: Path) -> object:
    model = Namespace(
        class_path="fbr_plugin.baselines.CAM", init_args=Namespace(num_classes=2, encoder="small")
    )
    return checkpoint_settings(str(path), model, set(), path.suffix == ".ckpt")


def _doctor(path: Path) -> object:
    root = path.parent if path.parent.name not in ("JPEGImages", "SegmentationClass") else path.parents[1]
    root = root if (root / "classes.txt").is_file() else path.parents[2]
    report = Report()
    subject, files = check(FolderDataModule(root), report, photos=True, workers=1)
    return table(report), [*mend(subject, files)]


def _layout(layout: Callable[[Path], Layout]) -> Callable[[Path], object]:
    """Reads a data set of localization, whichever of its files is damaged."""

    def read(path: Path) -> object:
        root = next(each for each in path.parents if (each / "root").exists())
        opened = layout(root)
        return opened.split(True, False), opened.split(False, True)

    return read


def _rooted(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def marked(folder: Path) -> None:
        (folder / "root").touch()
        write(folder)

    return marked


_LISTS = "metadata/OpenImages"
READERS = {
    "image": Reader(
        samples.images,
        ("photo.jpg", "photo.png", "photo.webp", "palette.png", "deep.png", "mask.png"),
        _image,
    ),
    "saliency": Reader(samples.images, ("saliency.png", "photo.jpg"), read_saliency),
    "list": Reader(samples.texts, ("list.txt", "classes.txt"), _list),
    "table": Reader(samples.texts, ("labels.csv",), _table),
    "named": Reader(
        samples.texts, ("named.csv",), lambda path: read_classes_of_images("csv", path, ["cat", "dog"])
    ),
    "xml": Reader(samples.texts, ("a.xml",), _xml),
    "labels": Reader(samples.pickles, ("labels.npy", "labels.pkl"), lambda path: labels_from_pickle(path, 2)),
    "seed": Reader(samples.pickles, ("irn.npy", "amn.npy", "seam.npy", "compact.npz"), read_seed),
    "coco": Reader(samples.codes, ("instances.json",), _coco),
    "instances": Reader(samples.codes, ("a.json",), lambda path: read_instances(path, 3)),
    "cub": Reader(
        _rooted(samples.cub),
        tuple(
            f"{name}.txt"
            for name in ("classes", "images", "train_test_split", "image_class_labels", "bounding_boxes")
        ),
        _layout(lambda root: CUBLayout(root, None)),
    ),
    "aircraft": Reader(
        _rooted(samples.aircraft),
        tuple(f"data/{name}.txt" for name in ("variants", "images_variant_test", "images_box")),
        _layout(AircraftLayout),
    ),
    "ilsvrc": Reader(
        _rooted(samples.ilsvrc),
        (
            "ImageSets/CLS-LOC/train_cls.txt",
            "ImageSets/CLS-LOC/val.txt",
            "Annotations/CLS-LOC/val/a.xml",
        ),
        _layout(ILSVRCLayout),
    ),
    "openimages": Reader(
        _rooted(samples.openimages),
        tuple(f"{_LISTS}/test/{name}.txt" for name in ("image_ids", "class_labels", "localization")),
        _layout(lambda root: OpenImagesLayout(root, "train", "test")),
    ),
    "cars": Reader(
        _rooted(samples.cars),
        tuple(
            f"devkit/{name}.mat" for name in ("cars_meta", "cars_train_annos", "cars_test_annos_withlabels")
        ),
        _layout(CarsLayout),
    ),
    "dogs": Reader(
        _rooted(samples.dogs),
        ("train_list.mat", "test_list.mat", "Annotation/n02-cat/a"),
        _layout(DogsLayout),
    ),
    "weights": Reader(
        samples.weights,
        ("weights.pt", "old.pth", "legacy.pt", "weights.safetensors", "weights.params"),
        lambda path: load_weights(SmallEncoder(), path),
    ),
    "released": Reader(
        samples.weights, ("weights.pt", "old.pth", "legacy.pt", "weights.safetensors"), read_released
    ),
    "checkpoint": Reader(samples.checkpoints, ("last.ckpt", "cam.safetensors"), _checkpoint),
    "yaml": Reader(samples.settings, ("config.yaml",), lambda path: find_config(str(path))),
    "sweep": Reader(samples.settings, ("sweep.yaml",), lambda path: _parse([str(path)])),
    "result": Reader(samples.settings, ("result.json",), lambda path: known(path, {"seed": 1})),
    "run": Reader(
        samples.pipeline,
        ("report.json", "masks/stage.json"),
        lambda path: open_runs([path.parent if path.name == "report.json" else path.parents[1]], ["a"]),
    ),
    "doctor": Reader(
        samples.photos,
        (
            *("classes.txt", "labels.csv", "ImageSets/Segmentation/train.txt"),
            *("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ),
        _doctor,
    ),
}
