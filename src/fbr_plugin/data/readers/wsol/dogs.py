"""Stanford Dogs."""

from pathlib import Path

from fbr_plugin.data.readers.boxes import object_boxes
from fbr_plugin.data.readers.labels import read_objects
from fbr_plugin.data.readers.wsol.layout import Split, class_number, named_by_folder, without_suffix
from fbr_plugin.data.readers.wsol.matlab import read_matlab
from fbr_plugin.errors import InputError


class DogsLayout:
    """Stanford Dogs: images, annotations and lists, each unpacked from its archive.

    Args:
        root: folder that holds `Images`, `Annotation`, `train_list.mat` and `test_list.mat`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        classes = self._classes("train_list.mat", None)
        folders = [name.split("/")[0] for name in classes]
        self.class_names = named_by_folder(root / "train_list.mat", folders, list(classes.values()))

    def split(self, training: bool, scored: bool) -> Split:
        classes = self._classes("train_list.mat" if training else "test_list.mat", len(self.class_names))
        boxes = None
        if scored:
            paths = {name: self.root / "Annotation" / name for name in classes}  # XML without a suffix
            boxes = {name: object_boxes(path, read_objects(path), 0) for name, path in paths.items()}
        return Split(self.root / "Images", classes, boxes)

    def _classes(self, file: str, num_classes: int | None) -> dict[str, int]:
        """The class of each image in a list; None for as many classes as images."""
        path = self.root / file
        files, numbers = read_matlab(path, "file_list", "labels")
        if len(files) != len(numbers):
            raise InputError(f"{path} has {len(files)} files, but {len(numbers)} labels: copy it again")
        names = [without_suffix(path, each) for each in files]
        count = num_classes or len(names)
        return {
            name: class_number(path, name, number, count) for name, number in zip(names, numbers, strict=True)
        }
