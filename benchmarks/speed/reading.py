"""Reading training images: the released data sets beside our data module, without worker processes."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.speed.photos import image_labels, integer_labels, write_voc
from benchmarks.speed.timing import Case, DisagreementError, need
from fbr_plugin.data import VOCDataModule
from fbr_plugin.data.settings import Augmentation, Lists

CUB: dict[str, Any] = {"resize": 256, "crop_size": 224}
AMN: dict[str, Any] = {"rescale": (0.5, 1.5), "crop_size": 512}
CAM: dict[str, Any] = {"long_side": (320, 640), "crop_size": 512}
PPC: dict[str, Any] = {"long_side": (448, 768), "colour_jitter": 0.3, "hue_jitter": 0.1, "crop_size": 448}


def same_shapes(ours: list[dict[str, Any]], released: list[tuple[int, ...]]) -> str:
    """Compares the shapes of the images; what the crops show is random."""
    if (found := [tuple(item["image"].shape) for item in ours]) != released:
        raise DisagreementError(f"the images have the shapes {found[0]} and {released[0]}")
    return "equal shapes of random crops"


def reading(root: Path, kind: str, number: int, photos: Path | None, theirs: bool = True) -> Case:
    """One pass over the photos as the training of "cam", "amn", "ppc" or "bas" reads them."""
    names = write_voc(root, number, photos=photos)
    augmentation = {"cam": CAM, "amn": AMN, "ppc": PPC, "bas": CUB}[kind]
    more: dict[str, Any] = {"amn": {"pseudo_label_dir": root / "labels"}}.get(kind, {})
    if kind == "ppc":
        more = {"saliency_dir": root / "saliency"}
    data = VOCDataModule(
        root, Lists("train", "train"), augmentation=Augmentation(**augmentation), **more
    ).dataset("fit")

    def ours() -> list[dict[str, Any]]:
        return [data[index] for index in range(number)]

    build = {"cam": _amn, "amn": _amn, "ppc": _ppc, "bas": _bas}[kind]
    released = build(root, kind, names) if theirs else None
    what = "real photos" if photos else "made-up photos of 500x375"
    return Case(ours, released, same_shapes, f"{what}, crops of {augmentation['crop_size']}", number)


Released = Callable[[], list[tuple[int, ...]]]


def _amn(root: Path, kind: str, names: list[str]) -> Released:
    need("imageio")
    module: Any = importlib.import_module("voc12.dataloader")
    module.cls_labels_dict = integer_labels(names)
    options: dict[str, Any] = {"hor_flip": True, "crop_size": 512, "crop_method": "random"}
    if kind == "amn":
        files = {"label_dir": str(root / "labels"), "voc12_root": str(root)}
        data = module.VOC12SegmentationDataset(root / "integers.txt", rescale=(0.5, 1.5), **files, **options)
    else:
        given = {"voc12_root": str(root), "resize_long": (320, 640)}
        data = module.VOC12ClassificationDataset(root / "integers.txt", **given, **options)
    return lambda: [data[index]["img"].shape for index in range(len(names))]


def _ppc(root: Path, kind: str, names: list[str]) -> Released:
    module: Any = importlib.import_module("data.dataset")
    module.load_img_label_list_from_npy = lambda found: [image_labels(names)[name] for name in found]
    folders = {"img_root": str(root / "JPEGImages"), "saliency_root": str(root / "saliency")}
    data = module.ClassificationDatasetWithSaliency(
        root / "ImageSets/Segmentation/train.txt", crop_size=448, resize_size=(448, 768), **folders
    )
    return lambda: [tuple(data[index][1].shape) for index in range(len(names))]


def _bas(root: Path, kind: str, names: list[str]) -> Released:
    module = importlib.import_module("DataLoader")
    (root / "train").mkdir()
    (root / "train" / "class").symlink_to(root / "JPEGImages")
    (root / "empty.txt").touch()
    empty = {"test_txt_path": root / "empty.txt", "test_gt_path": root / "empty.txt"}
    args = SimpleNamespace(
        root=str(root), phase="train", num_classes=200, crop_size=224, resize_size=256, **empty
    )
    data = module.ImageDataset(args)
    return lambda: [tuple(data[index][1].shape) for index in range(len(names))]
