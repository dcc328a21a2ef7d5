"""The quality of two-threshold labels, on which AMN trains."""

from pathlib import Path

import torch

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.readers.images import IGNORE, read_mask
from fbr_plugin.metrics import SegmentationScore


def label_quality(data: WSSSDataModule, folder: Path) -> dict[str, float]:
    """How good two-threshold labels are, in percent.

    Returns:
        mIoU outside 255 (`label_miou`), the share of foreground labels that are right (`label_precision`),
        and the share of pixels with one (`label_share`).
    """
    segmentation, foreground, right, pixels = SegmentationScore(data.num_classes), 0, 0, 0
    source = data.dataset("test").source
    for index, name in enumerate(source.ids):
        label = torch.from_numpy(read_mask(folder / f"{name}.png", data.num_classes)).long()
        mask = torch.from_numpy(source[index]["mask"]).long()
        counted = (label != IGNORE) & (mask != IGNORE)
        segmentation.update(torch.where(counted, label, 0), torch.where(counted, mask, IGNORE))
        own = counted & (label > 0)
        foreground, right = foreground + int(own.sum()), right + int((own & (label == mask)).sum())
        pixels += int((mask != IGNORE).sum())
    return {
        "label_miou": segmentation.compute().miou,
        "label_precision": 100 * right / max(foreground, 1),
        "label_share": 100 * foreground / pixels,
    }
