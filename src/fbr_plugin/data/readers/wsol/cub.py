"""CUB-200-2011."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.boxes import check_boxes, whole_numbers
from fbr_plugin.data.readers.labels import read_lines
from fbr_plugin.data.readers.wsol.layout import Split, class_number, without_suffix
from fbr_plugin.data.readers.wsol.masks import GreyMask, find_object_masks
from fbr_plugin.errors import InputError, short


class CUBLayout:
    """CUB-200-2011.

    Its masks are grey: the brighter a pixel, the more annotators marked it. As in published evaluations, a
    pixel that any of them marked belongs to the bird.

    Args:
        root: folder `CUB_200_2011`, which holds `images`, `images.txt` and the other lists.
        mask_dir: folder `segmentations` of the masks, a download of its own; None for no masks.
    """

    def __init__(self, root: Path, mask_dir: Path | None) -> None:
        self.root = root
        self.mask_dir = mask_dir
        self.class_names = tuple(name for _, name in self._table("classes.txt", 2))

    def split(self, training: bool, scored: bool) -> Split:
        chosen = {key for key, side in self._table("train_test_split.txt", 2) if (side == "1") == training}
        images = ((key, file) for key, file in self._table("images.txt", 2) if key in chosen)
        names = {key: without_suffix(self.root / "images.txt", file) for key, file in images}
        rows, count = self._of_images(names, "image_class_labels.txt", 2), len(self.class_names)
        where = self.root / "image_class_labels.txt"
        classes = {name: class_number(where, name, rows[key][0], count) for key, name in names.items()}
        split = Split(self.root / "images", classes)
        if not scored:
            return split
        rows = self._of_images(names, "bounding_boxes.txt", 5)
        boxes = {name: self._box(name, rows[key]) for key, name in names.items()}
        masks = find_object_masks(self.mask_dir, split.classes, GreyMask) if self.mask_dir else None
        return split._replace(boxes=boxes, masks=masks)

    def _box(self, name: str, row: list[str]) -> NDArray[np.int64]:
        """Boxes [1, 4] of a row x, y, width, height; as in published code, x + width is the last pixel."""
        path = self.root / "bounding_boxes.txt"
        ((x, y, width, height),) = whole_numbers(path, [row])
        return check_boxes(f"{path}: {short(name)}", np.array([[x, y, x + width, y + height]]))

    def _of_images(self, names: dict[str, str], file: str, columns: int) -> dict[str, list[str]]:
        """The row of each image in a table by the image's number, which the row begins with."""
        rows = {key: row for key, *row in self._table(file, columns)}
        if missing := [name for key, name in names.items() if key not in rows]:
            raise InputError(f"{short(missing[0])} has no row in {self.root / file}: copy it again")
        return rows

    def _table(self, file: str, columns: int) -> list[list[str]]:
        rows = [line.split() for line in read_lines(self.root / file, "row")]
        if wrong := [row for row in rows if len(row) != columns]:
            raise InputError(
                f"{self.root / file}: the row {short(' '.join(wrong[0]))} should have {columns} columns"
            )
        return rows
