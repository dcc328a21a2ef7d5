"""Images and masks in the folders of PASCAL VOC: the base for VOC, COCO and your own data."""

import warnings
from pathlib import Path

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.instances.sources import InstanceFiles, ObjectMaps, TruthStages
from fbr_plugin.data.readers.files import find_file
from fbr_plugin.data.readers.labels import ImageLabels, read_ids, without_class
from fbr_plugin.data.readers.saliency import find_saliency
from fbr_plugin.data.settings import Augmentation, Lists, Loading
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.data.transforms import eval_transform, train_transform
from fbr_plugin.errors import InputError, MissingFileError, check_choice


class LayoutDataModule(WSSSDataModule):
    """Data loaders for a folder laid out like PASCAL VOC.

    Masks are read only in validation, test and calibration, if `mask_dir` exists. Images are checked when
    they are read.

    Args:
        root: folder that holds `JPEGImages` and `ImageSets/Segmentation`.
        lists: which images each stage takes, by file names in `ImageSets/Segmentation`.
        mask_dir: folder of masks in `root`.
        pseudo_label_dir: folder of pseudo labels `ID.png`, for a baseline that trains on them.
        saliency_dir: folder of grey saliency maps `ID.png` or `ID.jpg`, for a baseline that trains on them.
        instances: stages that read true instances, for a network that predicts instances: `none`, `eval`
            (validation and test), or `all`, which includes training.
        object_dir: folder of maps of objects `ID.png` in `root`, of which true instances are made.
        pseudo_instance_dir: folder of pseudo instances `ID.json`, which take the place of true ones in
            training.
        augmentation: size, colour and crop in training.
        max_size: longest side outside training; larger images and masks are shrunk to it. None: any size.
        loading: batch sizes, worker processes and seed.

    Attributes:
        class_names: the foreground classes, in the order of their numbers 1..C in the masks. A subclass sets
            them.
        label_source: where image labels come from; `masks` derives them from the masks, `none` does without.
            A subclass sets it.
    """

    source_class = LayoutSource
    label_source: str

    def __init__(
        self,
        root: str | Path,
        lists: Lists = Lists(),
        mask_dir: str = "SegmentationClass",
        pseudo_label_dir: str | Path | None = None,
        saliency_dir: str | Path | None = None,
        instances: TruthStages = "none",
        object_dir: str = "SegmentationObject",
        pseudo_instance_dir: str | Path | None = None,
        augmentation: Augmentation = Augmentation(),
        max_size: int | None = None,
        loading: Loading = Loading(),
    ) -> None:
        super().__init__(loading)
        check_choice("instances", instances, TruthStages)
        self.root = Path(root)
        self.lists: dict[Stage, str] = {
            "fit": lists.train,
            "validate": lists.val,
            "test": lists.val,
            "predict": lists.predict or lists.train,
        }
        self.list_dir = self.root / "ImageSets" / "Segmentation"
        self.image_dir = self.root / "JPEGImages"
        self.mask_dir = self.root / mask_dir
        self.pseudo_label_dir = pseudo_label_dir
        self.saliency_dir = saliency_dir
        self.instances = instances
        self.object_dir = self.root / object_dir
        self.pseudo_instance_dir = pseudo_instance_dir
        if max_size is not None and max_size < 1:
            raise InputError(f"max_size must be at least 1, got {max_size}")
        self.train_transform = train_transform(augmentation)
        self.eval_transform = eval_transform(max_size)

    def ids(self, stage: Stage) -> list[str]:
        """The ids of a stage's images."""
        return self.listed(self.lists[stage])

    def listed(self, name: str) -> list[str]:
        """The ids of a list, by its name, or by the path of any text file."""
        return read_ids(self.list_file(name))

    def list_file(self, name: str) -> Path:
        """The file of a list."""
        own = self.list_dir / f"{name.removesuffix('.txt')}.txt"
        return own if own.is_file() or not Path(name).is_file() else Path(name)

    def image_labels(self, ids: list[str]) -> ImageLabels:
        """Image labels of at least these ids, from the label source."""
        raise NotImplementedError

    def source(self, stage: Stage) -> LayoutSource:
        """The images of a stage as they are on disk."""
        ids = self.ids(stage)
        if stage in ("validate", "test"):
            self._warn_of_overlap(ids)
        evaluating = stage in ("validate", "test") and self.mask_dir.is_dir()
        if self.calibrate:  # only its own images need masks
            evaluating = evaluating and not self.without_mask(ids)
        mask_dir = self.mask_dir if evaluating or self.label_source == "masks" else None
        labels = self._labels_of(ids, self.lists[stage], training=stage == "fit")
        source = self.source_class(ids, self.image_dir, mask_dir, self.num_classes, labels)
        source.instances = self.true_instances(ids) if self.reads_truth(stage) else None
        return source

    def true_instances(self, ids: list[str]) -> InstanceFiles:
        """The files with the true instances of some images."""
        return ObjectMaps(self.object_dir, self.mask_dir, ids, self.num_classes)

    def without_mask(self, ids: list[str]) -> list[str]:
        """Those of some images of which there is no mask."""
        return [name for name in ids if not find_file(self.mask_dir, name).is_file()]

    def calibration(self) -> SegmentationDataset:
        ids = self.calibration_ids()
        source = self.source_class(ids, self.image_dir, self.mask_dir, self.num_classes, None)
        if unknown := [name for name in ids if not source.image_path(name).is_file()]:
            raise MissingFileError(
                f"{len(unknown)} ids of the calibration list {self.calibrate} are of no image in "
                f"{self.image_dir}, the first is {unknown[0]}"
            )
        self.check_calibration(self.without_mask(ids))
        source.labels = self._labels_of(ids, self.calibrate)
        return SegmentationDataset(source, self.eval_transform, False, self.pseudo_label_dir)

    def _labels_of(self, ids: list[str], list_name: str, training: bool = False) -> ImageLabels | None:
        """Image labels of a list; None where the masks or nothing gives them."""
        if self.label_source in ("masks", "none"):
            return None
        labels = self.image_labels(ids)
        if missing := [name for name in ids if name not in labels]:
            raise InputError(
                f"{len(missing)} ids of the list {list_name!r} have no image labels in "
                f"{self.label_source}, the first is {missing[0]}: add them; for a network that needs none, "
                "set label_source to none"
            )
        if empty := without_class(labels, ids):
            counted = (
                f"{len(empty)} of {len(ids)} images on the list {list_name!r} are labelled without a class"
            )
            if training and len(empty) == len(ids):
                raise InputError(f"{counted}: label them, or set label_source to none for a network without")
            warnings.warn(f"{counted}, the first is {empty[0]}: they count as background alone", stacklevel=2)
        return labels

    def _warn_of_overlap(self, ids: list[str]) -> None:
        """Warn of training images that are scored, unless the name of their list begins with "train"."""
        train, scored = self.lists["fit"], self.lists["validate"]
        if scored.startswith("train") or scored == train or not self.list_file(train).is_file():
            return
        if shared := {*ids} & {*self.listed(train)}:
            warnings.warn(
                f"{len(shared)} of the {len(ids)} ids on the list {scored!r} are on the list {train!r} as "
                "well: their scores are those of training images; take them off one of the lists, or score "
                f"all training images with lists.val={train}",
                stacklevel=2,
            )

    def dataset(self, stage: Stage) -> SegmentationDataset:
        training = stage == "fit"
        transform = self.train_transform if training else self.eval_transform
        source = self.source(stage)
        maps = find_saliency(self.saliency_dir, source.ids) if training and self.saliency_dir else None
        pseudo = self.pseudo_instances(stage, source.ids)
        return SegmentationDataset(source, transform, training, self.pseudo_label_dir, maps, pseudo)

    def check_files(self, dataset: SegmentationDataset, stage: Stage) -> None:
        source = dataset.source
        if not isinstance(source, LayoutSource):
            return
        groups = {"images": [source.image_path(name) for name in source.ids]}
        if source.mask_dir is not None:
            groups["masks"] = [find_file(source.mask_dir, name) for name in source.ids]
        if stage == "fit" and self.pseudo_label_dir is not None:
            groups["pseudo labels"] = [find_file(Path(self.pseudo_label_dir), name) for name in source.ids]
        for kind, paths in groups.items():
            if missing := [path for path in paths if not path.is_file()]:
                raise MissingFileError(
                    f"{missing[0]} does not exist: check the folder and the ids of the list "
                    f"{self.lists[stage]!r}, of which {len(missing)} of {len(paths)} have no {kind}"
                )
