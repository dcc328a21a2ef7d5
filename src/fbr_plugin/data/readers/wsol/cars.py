"""Stanford Cars."""

from pathlib import Path

import numpy as np

from fbr_plugin.data.readers.boxes import check_boxes
from fbr_plugin.data.readers.wsol.layout import Split
from fbr_plugin.data.readers.wsol.matlab import read_matlab
from fbr_plugin.errors import InputError

_CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


class CarsLayout:
    """Stanford Cars: images, devkit and the classes of the test images, each unpacked from its archive.

    Args:
        root: folder that holds `cars_train`, `cars_test` and `devkit`, and in itself or in `devkit` the file
            `cars_test_annos_withlabels.mat`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (names,) = read_matlab(root / "devkit" / "cars_meta.mat", "class_names")
        self.class_names = tuple(map(str, names))

    def split(self, training: bool, scored: bool) -> Split:
        file = "cars_train_annos.mat" if training else "cars_test_annos_withlabels.mat"
        path = self.root / file if (self.root / file).is_file() else self.root / "devkit" / file
        (rows,) = read_matlab(path, "annotations")
        folder, classes, boxes = "cars_train" if training else "cars_test", {}, {}
        for row in rows:
            try:
                name = f"{folder}/{row['fname'].rpartition('.')[0]}"
                classes[name] = int(row["class"]) - 1
                corners = np.array([[int(row[key]) - 1 for key in _CORNERS]])  # pixels are counted from 1
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise InputError(
                    f"{path}: the annotation {row} should have a fname, and numbers for class and "
                    f"{', '.join(_CORNERS)}: copy it again"
                ) from error
            if not 0 <= classes[name] < len(self.class_names):
                raise InputError(
                    f"{path} gives {name} the class {classes[name] + 1}, but cars_meta.mat names "
                    f"{len(self.class_names)} classes: copy both again"
                )
            if scored:
                boxes[name] = check_boxes(name, corners)
        return Split(self.root, classes, boxes if scored else None)
