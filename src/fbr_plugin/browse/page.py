"""The page: a folder of static files that a browser opens from disk.

A page from disk may neither fetch files nor read the pixels of images that are files. So the maps are data
in scripts, one for each image, which the page loads when the image comes into view.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fbr_plugin.browse.layers import Item, Layer, Shown, open_layers
from fbr_plugin.browse.pictures import jpeg, png, shrink, small_size
from fbr_plugin.data.readers.images import voc_palette
from fbr_plugin.data.sources import Source
from fbr_plugin.errors import InputError
from fbr_plugin.figures.palette import CATEGORICAL, class_colours
from fbr_plugin.files import replacing_folder
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS
from fbr_plugin.postprocess.comparison import Predictions

STATIC = Path(__file__).parent / "static"
_START = 0.25  # threshold at first, where no masks choose one


def colours(num_classes: int) -> NDArray[np.uint8]:
    """The colours [256, 3] of the values of a mask: of the classes as in the figures, of 255 as in VOC."""
    found = voc_palette()
    found[1 : 1 + num_classes] = (255 * class_colours(num_classes)).round()
    return found


def check_output(output: Path) -> None:
    """Raise `InputError` if a folder holds anything but an earlier page, which is replaced."""
    if output.exists() and not (output / "browse.js").is_file():
        raise InputError(f"--output {output} exists and is not a page of this command: name a new folder")


def write_page(
    output: Path, source: Source, predictions: Sequence[Predictions], class_names: Sequence[str]
) -> None:
    """Write the page of some images and their predictions; the folder appears when it is complete.

    Args:
        output: the folder; an earlier page there is replaced.
        source: images, read one at a time, with their true masks and true instances where it has them.
        predictions: the folders shown; an image may lack a file in any of them.
        class_names: names of the foreground classes.
    """
    check_output(output)
    layers = open_layers(predictions, source.num_classes)
    with replacing_folder(output) as folder:
        for name in ("photos", "data"):
            (folder / name).mkdir()
        images = [
            _write_image(folder, number, source[number], layers)
            for number in tqdm(range(len(source)), "browse", disable=None)
        ]
        oracles = [_oracle(layer) for layer in layers]
        content = {
            "classes": ["background", *class_names],
            "palette": colours(len(class_names)).tolist(),
            "categorical": CATEGORICAL,
            "thresholds": BACKGROUND_THRESHOLDS,
            "start": next((cut for cut in oracles if cut is not None), BACKGROUND_THRESHOLDS.index(_START)),
            "layers": [
                {"name": layer.name, "kind": layer.kind, "oracle": cut}
                for layer, cut in zip(layers, oracles, strict=True)
            ],
            "images": images,
        }
        _write_call(folder / "data" / "images.js", "begin", content)
        for file in STATIC.iterdir():
            copyfile(file, folder / file.name)


def _write_image(folder: Path, number: int, item: Item, layers: Sequence[Layer]) -> dict[str, object]:
    """Write photo and maps of an image; returns what the page needs before it shows them."""
    size = small_size(item["image"])
    (folder / "photos" / f"{number}.jpg").write_bytes(jpeg(item["image"], size))
    shown = [layer.show(item) for layer in layers]
    maps = [
        {"planes": [png(shrink(plane, size)) for plane in each.planes], "instances": each.instances}
        if each
        else None
        for each in shown
    ]
    _write_call(folder / "data" / f"{number}.js", "receive", number, maps)
    return {
        "id": item["id"],
        "height": size[0],
        "width": size[1],
        "true": (true := _true_classes(item, shown[0])),
        "classes": sorted({*true}.union(*(each.classes for each in shown if each))),
        "counts": [each.counts if each else None for each in shown],
    }


def _true_classes(item: Item, truth: Shown | None) -> list[int]:
    """The classes in the true mask of an image or, without one, in its labels."""
    if truth is not None:
        return sorted(truth.classes)
    return (np.flatnonzero(item.get("label", ())) + 1).tolist()


def _oracle(layer: Layer) -> int | None:
    """The index of the best threshold of seeds, chosen with the masks; None without masks."""
    if layer.sweep is None or not layer.sweep.counts.any():
        return None
    return BACKGROUND_THRESHOLDS.index(layer.sweep.compute().oracle_threshold)


def _write_call(path: Path, function: str, *values: object) -> None:
    """Write a script that calls a function with some values."""
    words = ",".join(json.dumps(value, separators=(",", ":")) for value in values)
    path.write_text(f"{function}({words});\n")
