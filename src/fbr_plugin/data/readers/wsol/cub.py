"""CUB-200-2011."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.boxes import check_boxes
from fbr_plugin.data.readers.labels import read_lines
from fbr_plugin.data.readers.wsol.layout import Split
from fbr_plugin.data.readers.wsol.masks import GreyMask, find_object_masks
from fbr_plugin.errors import InputError


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
        names = {key: path.rpartition(".")[0] for key, path in self._table("images.txt", 2) if key in chosen}
        numbers = dict(self._table("image_class_labels.txt", 2))
        split = Split(self.root / "images", {name: int(numbers[key]) - 1 for key, name in names.items()})
        if not scored:
            return split
        rows = {key: np.array(row, np.float64) for key, *row in self._table("bounding_boxes.txt", 5)}
        if missing := [name for key, name in names.items() if key not in rows]:
            raise InputError(f"{missing[0]} has no box in {self.root / 'bounding_boxes.txt'}: copy it again")
        boxes = {name: self._box(name, rows[key]) for key, name in names.items()}
        masks = find_object_masks(self.mask_dir, split.classes, GreyMask) if self.mask_dir else None
        return split._replace(boxes=boxes, masks=masks)

    @staticmethod
    def _box(name: str, row: NDArray[np.float64]) -> NDArray[np.int64]:
        """Boxes [1, 4] of a row x, y, width, height; as in published code, x + width is the last pixel."""
        x, y, width, height = row.round().astype(np.int64)
        return check_boxes(name, np.array([[x, y, x + width, y + height]]))

    def _table(self, file: str, columns: int) -> list[list[str]]:
        rows = [line.split() for line in read_lines(self.root / file, "row")]
        if wrong := [row for row in rows if len(row) != columns]:
            raise InputError(
                f"{self.root / file}: the row {' '.join(wrong[0])} should have {columns} columns"
            )
        return rows
