"""Photos in the folders of VOC, real ones or made up, for lines that read files."""

from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.recipe_cost.networks import Size, example
from fbr_plugin.data import write_mask

SIZE = (375, 500)  # of VOC's photos


def write_voc(root: Path, number: int, size: Size = SIZE, photos: Path | None = None) -> list[str]:
    """Write photos with two-threshold labels, saliency maps and image labels of two classes; their ids.

    Args:
        root: an empty folder.
        number: of photos.
        size: of made-up photos.
        photos: a folder of JPEG files, the first of which are used; None makes some up.
    """
    folders = {name: root / name for name in ("JPEGImages", "labels", "saliency", "ImageSets/Segmentation")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    names = [f"2007_{position:06d}" for position in range(number)]
    files = islice(sorted(photos.glob("*.jpg")), number) if photos else ()
    for name, file in zip(names, files):  # noqa: B905  # there are none of made-up photos
        (folders["JPEGImages"] / f"{name}.jpg").write_bytes(file.read_bytes())
    for name in names:
        path = folders["JPEGImages"] / f"{name}.jpg"
        if not path.exists():
            Image.fromarray(example(size)[0]).save(path, quality=90)
        with Image.open(path) as photo:
            classes = example(photo.size[::-1])[1].numpy().astype(np.uint8)
        write_mask(folders["labels"] / f"{name}.png", classes)
        Image.fromarray(np.uint8(255) * (classes > 0)).save(folders["saliency"] / f"{name}.png")
    (folders["ImageSets/Segmentation"] / "train.txt").write_text("\n".join(names))
    # As the released code of CAM and AMN reads ids: as integers.
    (root / "integers.txt").write_text("\n".join(name.replace("_", "") for name in names))
    np.save(root / "cls_labels.npy", np.array(image_labels(names), dtype=object))
    return names


def image_labels(names: list[str]) -> dict[str, np.ndarray]:
    """The same two of VOC's 20 classes for each photo."""
    return {name: np.eye(20, dtype=np.float32)[:2].sum(0) for name in names}


def integer_labels(names: list[str]) -> dict[int, np.ndarray]:
    """The same by integers."""
    return {int(name.replace("_", "")): label for name, label in image_labels(names).items()}
