"""Weakly supervised object localization: one class per image, and boxes for evaluation."""

from pathlib import Path
from typing import Literal

from fbr_plugin.data.crops import CroppedDataset
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.readers.saliency import find_saliency
from fbr_plugin.data.readers.wsol_layouts import CUBLayout, FolderLayout, ILSVRCLayout, Layout, OneClass
from fbr_plugin.data.settings import Augmentation, Loading
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.data.transforms import eval_transform, train_transform
from fbr_plugin.errors import InputError, check_choice


class WSOLDataModule(WSSSDataModule):
    """Images of one class each, with boxes in validation and test only.

    `folder` is your own data: `classes.txt` names the classes, `JPEGImages` holds the images, and
    `ImageSets/Main` the lists. `Annotations/ID.xml` holds the boxes in VOC's format, and the classes too,
    unless `labels.csv` (header `id,<class>,...`, cells 0 or 1) gives them, so that training needs no XML.
    `cub` is CUB-200-2011 and `ilsvrc` the 1000 classes of ILSVRC 2012, both as distributed.

    A batch holds `boxes`, a list with one int64 tensor [n, 4] per image: x0, y0, x1, y1 in pixels of the
    resized and cropped image, counted from 0, both corners inside the box.

    Args:
        root: folder of the data: your own, `CUB_200_2011`, or `ILSVRC`.
        layout: `folder`, `cub` or `ilsvrc`.
        train_list: list of training ids of `folder`, a file name in `ImageSets/Main`.
        test_list: list of the ids of validation, test and prediction of `folder`.
        box_origin: number of an image's first pixel in the XML of `folder`: 1 as in VOC, or 0.
        saliency_dir: folder of grey saliency maps `ID.png` or `ID.jpg`, for a baseline that trains on them.
        augmentation: size, colour and crop in training.
        eval_size: side of the square to which images are resized outside training; None keeps their size.
        centre_crop: side of the square at the centre of that image to which images and boxes are cropped in
            validation and test; None scores the whole image. BAS was published with 224 of 256.
        ten_crop: classify by the mean over ten crops of that side in `test`: corners, centre, mirror images.
        loading: batch sizes, worker processes and seed.
    """

    def __init__(
        self,
        root: str | Path,
        layout: Literal["folder", "cub", "ilsvrc"] = "folder",
        train_list: str = "train",
        test_list: str = "test",
        box_origin: Literal[0, 1] = 1,
        saliency_dir: str | Path | None = None,
        augmentation: Augmentation = Augmentation(resize=256, crop_size=224),
        eval_size: int | None = 224,
        centre_crop: int | None = None,
        ten_crop: bool = False,
        loading: Loading = Loading(),
    ) -> None:
        super().__init__(loading)
        check_choice("layout", layout, ("folder", "cub", "ilsvrc"))
        self.root = Path(root)
        self.layout: Layout
        if layout == "folder":
            self.layout = FolderLayout(self.root, train_list, test_list, box_origin)
        else:
            self.layout = CUBLayout(self.root) if layout == "cub" else ILSVRCLayout(self.root)
        self.class_names = self.layout.class_names
        self.saliency_dir = saliency_dir
        self.train_transform = train_transform(augmentation)
        self.eval_transform = eval_transform(square=eval_size)
        if centre_crop is None and ten_crop:
            raise InputError(
                "ten_crop takes crops of the side centre_crop, which is None: set it, e.g. to 224"
            )
        if centre_crop is not None and not 1 <= centre_crop <= (eval_size or centre_crop):
            raise InputError(f"centre_crop must be 1 to eval_size={eval_size}, got {centre_crop}")
        self.centre_crop = centre_crop
        self.ten_crop = ten_crop

    def dataset(self, stage: Stage) -> SegmentationDataset:
        training = stage == "fit"
        images, classes, boxes = self.layout.split(training, stage in ("validate", "test"))
        labels = OneClass(classes, self.num_classes)
        source = LayoutSource(list(classes), images, None, self.num_classes, labels, boxes)
        maps = find_saliency(self.saliency_dir, source.ids) if training and self.saliency_dir else None
        transform = self.train_transform if training else self.eval_transform
        if self.centre_crop is None or stage not in ("validate", "test"):
            return SegmentationDataset(source, transform, training, saliency=maps)
        ten_crop = self.ten_crop and stage == "test"
        return CroppedDataset(source, transform, training, side=self.centre_crop, ten_crop=ten_crop)
