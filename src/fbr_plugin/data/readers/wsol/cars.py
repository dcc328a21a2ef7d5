"""Stanford Cars."""

from pathlib import Path

from fbr_plugin.data.readers.boxes import check_boxes, whole_numbers
from fbr_plugin.data.readers.wsol.layout import Split, class_number, without_suffix
from fbr_plugin.data.readers.wsol.matlab import read_matlab
from fbr_plugin.errors import InputError, short

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
            if not isinstance(row, dict) or not {"fname", "class", *_CORNERS} <= row.keys():
                raise InputError(
                    f"{path}: the annotation {short(row)} should have a fname, and numbers for class and "
                    f"{', '.join(_CORNERS)}: copy it again"
                )
            name = f"{folder}/{without_suffix(path, row['fname'])}"
            classes[name] = class_number(path, name, row["class"], len(self.class_names))
            if scored:
                corners = whole_numbers(path, [[row[key] for key in _CORNERS]]) - 1  # counted from 1
                boxes[name] = check_boxes(f"{path}: {short(name)}", corners)
        return Split(self.root, classes, boxes if scored else None)
