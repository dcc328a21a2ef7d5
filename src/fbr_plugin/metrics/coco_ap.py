"""COCO's average precision of instance masks, by torchmetrics and pycocotools."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from fbr_plugin.errors import MissingPackageError
from fbr_plugin.instances import Instances, check_pairs
from fbr_plugin.metrics.instances import without_ignored

_FIGURES = ("", "_50", "_75", "_small", "_medium", "_large")


class COCOInstanceAP(MeanAveragePrecision):
    """COCO's AP of instance masks: mean over the IoUs .5 to .95 and the classes; 100 predictions an image.

    Unlike `MeanAveragePrecision(iou_type="segm")` of torchmetrics 1.9, it counts the predictions in images
    without true instances, is 0 if nothing is predicted, and leaves out ignored pixels, of which COCO knows
    none. As there, all processes need the same number of images.
    """

    def __init__(self) -> None:
        # With masks alone, torchmetrics drops images without masks from the truth; with boxes, it keeps all.
        try:
            super().__init__(iou_type=("bbox", "segm"))
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                "COCO's AP needs pycocotools: pip install 'fbr_plugin[coco]'"
            ) from error

    def update(self, preds: Sequence[Instances], target: Sequence[Instances]) -> None:  # type: ignore[override]
        """Take the instances of some images, as `InstanceAP.update` does."""
        check_pairs(preds, target, sys.maxsize)
        for pair in zip(preds, target, strict=True):
            pred, truth = ([_with_boxes(each)] for each in without_ignored(*pair))
            super().update(pred, truth)

    def compute(self) -> dict[str, float]:
        """Return `coco_ap` and `coco_ap_50`, `_75`, `_small`, `_medium`, `_large`, in percent.

        They are nan where there is no true instance.
        """
        found: dict[str, Any] = super().compute()
        values = {f"coco_ap{name}": found[f"segm_map{name}"].item() for name in _FIGURES}
        return {name: math.nan if value < 0 else 100 * value for name, value in values.items()}


def _with_boxes(instances: Instances) -> dict[str, Tensor]:
    """Instances with boxes of zeros, as nobody looks at their scores."""
    masks: Any = instances
    return {**masks, "boxes": torch.zeros(len(masks["labels"]), 4, device=masks["labels"].device)}
