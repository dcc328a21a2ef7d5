"""Images and masks in the folders of PASCAL VOC: what one's own data and VOC itself share."""

from collections.abc import Sequence
from pathlib import Path

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.readers.labels import ImageLabels, read_ids
from fbr_plugin.data.readers.saliency import find_saliency
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.data.transforms import eval_transform, train_transform


class LayoutDataModule(WSSSDataModule):
    """Loaders over a folder laid out like PASCAL VOC.

    Training takes `train_list`, validation and test take `val_list`, prediction takes `predict_list`. Masks
    are read for validation and test alone, where `mask_dir` exists. Images are checked when they are read.

    Args:
        root: folder that holds `JPEGImages` and `ImageSets/Segmentation`.
        class_names: the foreground classes, in the order of their numbers 1..C in the masks.
        train_list: list of training ids, a file name in `ImageSets/Segmentation`.
        val_list: list of the ids of validation and test.
        predict_list: list of the ids of prediction; None takes the training list.
        mask_dir: folder of masks in `root`.
        label_source: where image labels come from; `masks` takes them from the masks, `none` goes without.
        pseudo_label_dir: folder of pseudo labels `ID.png`, for a baseline that trains on them.
        saliency_dir: folder of grey saliency maps `ID.png` or `ID.jpg`, for a baseline that trains on them.
        crop_size: side of the square training crops.
        long_side: range in pixels from which the longer side is drawn in training, e.g. [320, 640] for a CAM.
        rescale: range from which a factor of the size is drawn in training instead, e.g. [0.5, 1.5] for AMN.
        colour_jitter: largest relative change of brightness, contrast and saturation in training.
        max_size: longest side outside training, to which bigger images and masks are shrunk; None: any size.
        batch_size: images a training batch, on each process.
        eval_batch_size: images a batch elsewhere; more than 1 asks for images of one size.
        num_workers: processes that load data; 0 loads in the main one.
        seed: decides the order and the augmentation of training.
    """

    source_class = LayoutSource

    def __init__(
        self,
        root: str | Path,
        class_names: Sequence[str],
        train_list: str,
        val_list: str,
        predict_list: str | None,
        mask_dir: str,
        label_source: str,
        pseudo_label_dir: str | Path | None = None,
        saliency_dir: str | Path | None = None,
        crop_size: int = 512,
        long_side: tuple[int, int] | None = None,
        rescale: tuple[float, float] | None = None,
        colour_jitter: float = 0.0,
        max_size: int | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed)
        self.root = Path(root)
        self.class_names = tuple(class_names)
        self.lists: dict[Stage, str] = {
            "fit": train_list,
            "validate": val_list,
            "test": val_list,
            "predict": predict_list or train_list,
        }
        self.image_dir = self.root / "JPEGImages"
        self.mask_dir = self.root / mask_dir
        self.label_source = label_source
        self.pseudo_label_dir = pseudo_label_dir
        self.saliency_dir = saliency_dir
        self.train_transform = train_transform(crop_size, long_side, rescale, colour_jitter)
        self.eval_transform = eval_transform(max_size)

    def ids(self, stage: Stage) -> list[str]:
        """The images of a stage by name."""
        name = self.lists[stage].removesuffix(".txt")
        return read_ids(self.root / "ImageSets" / "Segmentation" / f"{name}.txt")

    def image_labels(self, ids: list[str]) -> ImageLabels:
        """Image labels of at least these ids, from the label source."""
        raise NotImplementedError

    def source(self, stage: Stage) -> LayoutSource:
        """The images of a stage as they are on disk."""
        ids = self.ids(stage)
        labels = None if self.label_source in ("masks", "none") else self.image_labels(ids)
        if labels is not None and (missing := [name for name in ids if name not in labels]):
            raise ValueError(
                f"{len(missing)} ids of the list {self.lists[stage]!r} have no image labels in "
                f"{self.label_source}, the first is {missing[0]}: add them; for a network that needs none, "
                "set label_source to none"
            )
        evaluating = stage in ("validate", "test") and self.mask_dir.is_dir()
        mask_dir = self.mask_dir if evaluating or self.label_source == "masks" else None
        return self.source_class(ids, self.image_dir, mask_dir, self.num_classes, labels)

    def dataset(self, stage: Stage) -> SegmentationDataset:
        training = stage == "fit"
        transform = self.train_transform if training else self.eval_transform
        source = self.source(stage)
        maps = find_saliency(self.saliency_dir, source.ids) if training and self.saliency_dir else None
        return SegmentationDataset(source, transform, self.pseudo_label_dir, training, maps)
