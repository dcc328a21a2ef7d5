"""Lightning data modules: synthetic scenes, your own folder, PASCAL VOC, COCO, localization."""

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.datamodules.coco import COCODataModule
from fbr_plugin.data.datamodules.folder import FolderDataModule
from fbr_plugin.data.datamodules.synthetic import SyntheticDataModule
from fbr_plugin.data.datamodules.voc import VOCDataModule
from fbr_plugin.data.datamodules.wsol import WSOLDataModule
from fbr_plugin.data.dataset import SegmentationDataset
from fbr_plugin.data.readers.images import read_image, read_mask, write_mask
from fbr_plugin.data.readers.pickles import load_restricted
from fbr_plugin.data.sampling import EpochSampler
from fbr_plugin.data.scenes.scene import PRESETS, ScenePreset
from fbr_plugin.data.scenes.source import SyntheticScenes
from fbr_plugin.data.scenes.textures import STUFF_NAMES
from fbr_plugin.data.settings import Augmentation, Lists, Loading
from fbr_plugin.data.transforms import MEAN, STD, denormalise, eval_transform, train_transform

__all__ = [
    "MEAN",
    "PRESETS",
    "STD",
    "STUFF_NAMES",
    "Augmentation",
    "COCODataModule",
    "EpochSampler",
    "FolderDataModule",
    "Lists",
    "Loading",
    "ScenePreset",
    "SegmentationDataset",
    "SyntheticDataModule",
    "SyntheticScenes",
    "VOCDataModule",
    "WSOLDataModule",
    "WSSSDataModule",
    "denormalise",
    "eval_transform",
    "load_restricted",
    "read_image",
    "read_mask",
    "train_transform",
    "write_mask",
]
