"""FGVC-Aircraft."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.boxes import Boxes, check_boxes, whole_numbers
from fbr_plugin.data.readers.labels import read_lines
from fbr_plugin.data.readers.limits import check_name
from fbr_plugin.data.readers.wsol.layout import Split, only_class
from fbr_plugin.errors import InputError, short


class AircraftLayout:
    """FGVC-Aircraft 2013b with its variants as classes; training takes its training and validation images.

    The copyright banner below each image, 20 pixels high, is kept, as in BAS's released code.

    Args:
        root: folder `fgvc-aircraft-2013b`, which holds `data`.
    """

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.class_names = tuple(read_lines(self.data / "variants.txt", "variant"))

    def split(self, training: bool, scored: bool) -> Split:
        path = self.data / f"images_variant_{'trainval' if training else 'test'}.txt"
        pairs = [line.partition(" ") for line in read_lines(path, "row")]
        classes = {
            check_name(path, name): only_class(path, name, [variant], self.class_names)
            for name, _, variant in pairs
        }
        return Split(self.data / "images", classes, self._boxes(classes) if scored else None)

    def _boxes(self, names: dict[str, int]) -> Boxes:
        path = self.data / "images_box.txt"
        boxes: dict[str, NDArray[np.int64]] = {}
        for line in read_lines(path, "row"):
            name, *corners = line.split()
            if len(corners) != 4 or not all(corner.isdecimal() for corner in corners):
                raise InputError(
                    f"{path}: the row {short(line)} should have an id and 4 numbers: copy it again"
                )
            boxes[name] = whole_numbers(path, [corners]) - 1  # pixels are counted from 1
        if missing := [name for name in names if name not in boxes]:
            raise InputError(f"{short(missing[0])} has no box in {path}: copy it again")
        return {name: check_boxes(f"{path}: {short(name)}", boxes[name]) for name in names}
