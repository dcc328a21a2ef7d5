"""Weakly supervised object localization: one class per image, and boxes or masks for evaluation."""

from pathlib import Path
from typing import Literal

from fbr_plugin.data.crops import CroppedDataset
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.readers.saliency import find_saliency
from fbr_plugin.data.readers.wsol.aircraft import AircraftLayout
from fbr_plugin.data.readers.wsol.cars import CarsLayout
from fbr_plugin.data.readers.wsol.cub import CUBLayout
from fbr_plugin.data.readers.wsol.dogs import DogsLayout
from fbr_plugin.data.readers.wsol.folder import FolderLayout
from fbr_plugin.data.readers.wsol.ilsvrc import ILSVRCLayout
from fbr_plugin.data.readers.wsol.layout import Layout, OneClass
from fbr_plugin.data.readers.wsol.openimages import OpenImagesLayout
from fbr_plugin.data.settings import Augmentation, Loading
from fbr_plugin.data.sources import LayoutSource
from fbr_plugin.data.transforms import eval_transform, train_transform
from fbr_plugin.errors import InputError, check_choice

LayoutName = Literal["folder", "cub", "ilsvrc", "openimages", "dogs", "cars", "aircraft"]


class WSOLDataModule(WSSSDataModule):
    """Images of one class each, with boxes or masks in validation and test only.

    `folder` is your own data: `classes.txt` names the classes, `JPEGImages` holds the images, and
    `ImageSets/Main` the lists. `Annotations/ID.xml` holds the boxes in VOC's format, and the classes too,
    unless `labels.csv` (header `id,<class>,...`, cells 0 or 1) gives them, so that training needs no XML.
    The others are data sets as distributed: `cub` is CUB-200-2011, `ilsvrc` the 1000 classes of ILSVRC 2012,
    `openimages` OpenImages30k with masks and the lists of wsolevaluation, `dogs` and `cars` are Stanford's,
    `aircraft` is FGVC-Aircraft.

    A batch holds `boxes`, a list with one int64 tensor [n, 4] per image: x0, y0, x1, y1 in pixels of the
    resized and cropped image, counted from 0, both corners inside the box. With masks, it holds
    `object_mask`, a list with one int64 tensor [h, w] per image: 1 = object, 0 = background, 255 = ignored.

    Args:
        root: folder of the data: your own, or the one that the layout's class names, e.g. `CUB_200_2011`.
        layout: one of the above.
        train_list: list of training ids of `folder`, a file name in `ImageSets/Main`; split of `openimages`.
        test_list: the same for validation, test and prediction.
        box_origin: number of an image's first pixel in the XML of `folder`: 1 as in VOC, or 0.
        mask_dir: folder of masks `ID.png`, absolute or in `root`: of `folder` in VOC's format, or the
            `segmentations` of `cub`; None for no masks.
        saliency_dir: folder of grey saliency maps `ID.png` or `ID.jpg`, for a baseline that trains on them.
        augmentation: size, colour and crop in training.
        eval_size: side of the square to which images are resized outside training; None keeps their size.
        centre_crop: side of the square at the centre of that image to which images and boxes are cropped in
            validation and test; None scores the whole image. BAS was published with 224 of 256.
        ten_crop: classify by the mean over ten crops of that side in `test`: corners, centre, mirror images.
        loading: batch sizes, worker processes and seed.

    Raises:
        ValueError: there is no such layout, or it has no `mask_dir`.
        FileNotFoundError: a list does not exist.
    """

    def __init__(
        self,
        root: str | Path,
        layout: LayoutName = "folder",
        train_list: str = "train",
        test_list: str = "test",
        box_origin: Literal[0, 1] = 1,
        mask_dir: str | Path | None = None,
        saliency_dir: str | Path | None = None,
        augmentation: Augmentation = Augmentation(resize=256, crop_size=224),
        eval_size: int | None = 224,
        centre_crop: int | None = None,
        ten_crop: bool = False,
        loading: Loading = Loading(),
    ) -> None:
        super().__init__(loading)
        check_choice("layout", layout, LayoutName)
        self.root = Path(root)
        self.layout: Layout
        masks = None if mask_dir is None else self.root / mask_dir
        if masks and layout not in ("folder", "cub"):
            raise InputError(
                f"mask_dir={mask_dir} is for the layouts folder and cub: leave it out for {layout}"
            )
        match layout:
            case "folder":
                self.layout = FolderLayout(self.root, train_list, test_list, box_origin, masks)
            case "cub":
                self.layout = CUBLayout(self.root, masks)
            case "ilsvrc":
                self.layout = ILSVRCLayout(self.root)
            case "openimages":
                self.layout = OpenImagesLayout(self.root, train_list, test_list)
            case "dogs":
                self.layout = DogsLayout(self.root)
            case "cars":
                self.layout = CarsLayout(self.root)
            case "aircraft":
                self.layout = AircraftLayout(self.root)
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
        split = self.layout.split(training, stage in ("validate", "test"))
        labels = OneClass(split.classes, self.num_classes)
        ids = list(split.classes)
        source = LayoutSource(ids, split.image_dir, None, self.num_classes, labels, split.boxes, split.masks)
        maps = find_saliency(self.saliency_dir, source.ids) if training and self.saliency_dir else None
        transform = self.train_transform if training else self.eval_transform
        if self.centre_crop is None or stage not in ("validate", "test"):
            return SegmentationDataset(source, transform, training, saliency=maps)
        ten_crop = self.ten_crop and stage == "test"
        return CroppedDataset(source, transform, training, side=self.centre_crop, ten_crop=ten_crop)
