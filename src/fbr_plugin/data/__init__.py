"""Lightning data modules: the embedded scenes, one's own folder, PASCAL VOC, COCO, localization."""

from fbr_plugin.data.coco import COCODataModule
from fbr_plugin.data.dataset import SegmentationDataset
from fbr_plugin.data.folder import FolderDataModule
from fbr_plugin.data.images import read_image, read_mask, write_mask
from fbr_plugin.data.loading import EpochSampler, WSSSDataModule
from fbr_plugin.data.pickles import load_restricted
from fbr_plugin.data.scenes import PRESETS, ScenePreset
from fbr_plugin.data.synthetic import SyntheticDataModule, SyntheticScenes
from fbr_plugin.data.textures import TEXTURE_NAMES
from fbr_plugin.data.transforms import MEAN, STD, denormalise, eval_transform, train_transform
from fbr_plugin.data.voc import VOCDataModule
from fbr_plugin.data.wsol import WSOLDataModule

__all__ = [
    "MEAN",
    "PRESETS",
    "STD",
    "TEXTURE_NAMES",
    "COCODataModule",
    "EpochSampler",
    "FolderDataModule",
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
