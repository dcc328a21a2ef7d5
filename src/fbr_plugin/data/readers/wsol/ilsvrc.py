"""ILSVRC 2012."""

from pathlib import Path

from fbr_plugin.data.readers.labels import read_ids, read_lines
from fbr_plugin.data.readers.limits import check_name
from fbr_plugin.data.readers.wsol.layout import Split, split_from_xml


class ILSVRCLayout:
    """ILSVRC 2012 in the layout of its localization challenge; classes are WordNet ids in alphabetical order.

    Args:
        root: folder `ILSVRC`, which holds `Data`, `Annotations` and `ImageSets`, each with `CLS-LOC`.
    """

    def __init__(self, root: Path) -> None:
        self.images, self.annotations, self.lists = (
            root / name / "CLS-LOC" for name in ("Data", "Annotations", "ImageSets")
        )
        path = self.lists / "train_cls.txt"
        self.train_ids = [check_name(path, line.split()[0]) for line in read_lines(path, "wnid/id")]
        self.class_names = tuple(sorted({name.partition("/")[0] for name in self.train_ids}))

    def split(self, training: bool, scored: bool) -> Split:
        if training:
            index = {name: i for i, name in enumerate(self.class_names)}
            classes = {name: index[name.partition("/")[0]] for name in self.train_ids}
            return Split(self.images / "train", classes)
        ids = read_ids(self.lists / "val.txt")
        return split_from_xml(self.images / "val", self.annotations / "val", ids, self.class_names, 0, scored)
