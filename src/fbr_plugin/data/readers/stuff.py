"""Maps of the stuff around the objects, and the classes with which it co-occurs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.data.readers.files import find_maps
from fbr_plugin.data.readers.images import read_numbers
from fbr_plugin.data.readers.labels import ImageLabels
from fbr_plugin.errors import InputError
from fbr_plugin.stuff import StuffTable

APPEARS = 0.01  # share of an image that stuff covers at least if it appears there


class StuffMaps:
    """The maps `ID.png` of the stuff in a list of images: 0 = none, 1..S.

    Args:
        folder: folder of the maps.
        ids: the images' names without suffix.
        names: S names of the stuff, in the order of the numbers.
    """

    def __init__(self, folder: Path, ids: Iterable[str], names: Sequence[str]) -> None:
        self.files = find_maps("stuff_dir", folder, ids, "stuff map ID.png")
        self.names = names

    def read(self, name: str) -> NDArray[np.uint8]:
        """The map [H, W] of an image."""
        path, known = self.files[name], len(self.names)
        stuff = read_numbers(path)
        if (found := stuff.max(initial=0)) > known:
            raise InputError(
                f"{path} holds the value {found}, but stuff.txt names {known} kinds of stuff: a map holds 0 "
                f"(none) and 1..{known}; correct the map, or add the names"
            )
        return stuff

    def table(self, labels: ImageLabels) -> StuffTable:
        """The classes in at least half of whose images each stuff appears.

        Args:
            labels: image labels [C] of at least the images of the list.
        """
        present = np.stack([labels[name] > 0 for name in self.files]).astype(np.int64)
        appears = np.stack([self._shares(name) >= APPEARS for name in self.files])
        images = present.sum(0)[:, None]
        cooccurring = (2 * (present.T @ appears) >= images) & (images > 0)
        return StuffTable(self.names, torch.from_numpy(cooccurring))

    def _shares(self, name: str) -> NDArray[np.float64]:
        """The share [S] of an image that each stuff covers."""
        stuff = self.read(name)
        return np.bincount(stuff.ravel(), minlength=len(self.names) + 1)[1:] / stuff.size
