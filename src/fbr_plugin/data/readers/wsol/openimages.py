"""OpenImages30k, by the lists of wsolevaluation."""

from pathlib import Path

from fbr_plugin.data.readers.labels import read_lines
from fbr_plugin.data.readers.limits import check_name
from fbr_plugin.data.readers.wsol.layout import Split, named_by_folder, without_suffix
from fbr_plugin.data.readers.wsol.masks import InstanceMasks
from fbr_plugin.errors import InputError, MissingFileError, short

_SOURCE = "https://github.com/clovaai/wsolevaluation"


class OpenImagesLayout:
    """OpenImages30k as prepared for wsolevaluation: images and masks, and its lists, with ignored regions.

    Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, and their code
    at commit 96f4b88. The classes are machine ids of Open Images such as 01226z.

    Args:
        root: folder that holds `dataset/OpenImages` with images and masks, and `metadata/OpenImages` with a
            folder of lists for each split.
        train_list: split for training, `train`.
        test_list: split for evaluation: `test`, or `val`, on which settings are to be chosen.
    """

    def __init__(self, root: Path, train_list: str, test_list: str) -> None:
        self.data = root / "dataset" / "OpenImages"
        self.lists = root / "metadata" / "OpenImages"
        self.train_list = train_list
        self.test_list = test_list
        labels = self._classes(train_list)
        folders = [name.split("/")[-2] for name in labels]
        where = self.lists / train_list / "class_labels.txt"
        self.class_names = named_by_folder(where, folders, list(labels.values()))

    def split(self, training: bool, scored: bool) -> Split:
        chosen = self.train_list if training else self.test_list
        classes = self._classes(chosen)
        where = self.lists / chosen / "class_labels.txt"
        if wrong := [name for name, number in classes.items() if not 0 <= number < len(self.class_names)]:
            raise InputError(
                f"{where} gives {short(wrong[0])} the class {classes[wrong[0]]}, but the training list has "
                f"the classes 0 to {len(self.class_names) - 1}: copy both lists from {_SOURCE}"
            )
        return Split(self.data, classes, masks=self._masks(chosen, classes) if scored else None)

    def _classes(self, split: str) -> dict[str, int]:
        """The class of each image in `image_ids.txt`, by its name without suffix."""
        numbers = {name: number for name, number in self._rows(split, "class_labels.txt", 2)}
        classes = {}
        for (name,) in self._rows(split, "image_ids.txt", 1):
            number = numbers.get(name, "")
            if not (number.isascii() and number.isdecimal() and len(number) <= 9) or "/" not in name:
                raise InputError(
                    f"{self.lists / split / 'class_labels.txt'} has no class number of {short(name)}: its "
                    "rows are SPLIT/CLASS/ID.jpg,NUMBER"
                )
            classes[without_suffix(self.lists / split / "image_ids.txt", name)] = int(number)
        return classes

    def _masks(self, split: str, names: dict[str, int]) -> dict[str, InstanceMasks]:
        """The masks of each image: a row for each object, of which the first names the ignored region."""
        objects: dict[str, list[Path]] = {name: [] for name in names}
        ignored, path = {}, self.lists / split / "localization.txt"
        for image, mask, region in self._rows(split, "localization.txt", 3):
            name = image.rpartition(".")[0]
            if name in objects:
                objects[name].append(self.data / check_name(path, mask))
                if region:
                    ignored[name] = self.data / check_name(path, region)
        if missing := [name for name in names if not objects[name] or name not in ignored]:
            raise InputError(
                f"{len(missing)} images of {split} have no mask of an object and of an ignored region in "
                f"{path}, the first is {short(missing[0])}: copy the list from "
                f"{_SOURCE}, or take them off image_ids.txt"
            )
        return {name: InstanceMasks(tuple(objects[name]), ignored[name]) for name in names}

    def _rows(self, split: str, file: str, columns: int) -> list[list[str]]:
        path = self.lists / split / file
        if not path.is_file():
            raise MissingFileError(
                f"{path} does not exist: copy the folder metadata of {_SOURCE} to {self.lists.parents[1]}; "
                "its splits are train, val and test"
            )
        rows = [line.split(",") for line in read_lines(path, "row")]
        if wrong := [row for row in rows if len(row) != columns]:
            raise InputError(
                f"{path}: the row {short(','.join(wrong[0]))} should have {columns} columns: copy it from "
                f"{_SOURCE}"
            )
        return rows
