"""Panels of the scores of a set: threshold sweep, confusion, IoU of the classes, and examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric

from fbr_plugin import figures
from fbr_plugin.callbacks.loggers.panels import Mask, Overlay, Panel, Table, mask_names
from fbr_plugin.data.transforms import denormalise, to_photo
from fbr_plugin.distributed import all_reduce_sum
from fbr_plugin.metrics import SeedSweep, SegmentationScore, ViewAgreement
from fbr_plugin.metrics.segmentation import SweepResult, image_iou, summarise_confusion, sweep_confusions

FIGURE = 4  # examples in the figure; the table has all


@dataclass(frozen=True)
class Example:
    """A scored image on the CPU.

    Args:
        name: of the image.
        photo: [3, H, W] normalised.
        truth: [H, W] mask.
        found: [C, H, W] seeds, or the predicted mask [H, W].
    """

    name: str
    photo: Tensor
    truth: Tensor
    found: Tensor

    def prediction(self, threshold: float) -> Tensor:
        """The predicted mask [H, W], of seeds at a threshold."""
        if self.found.dim() == 2:
            return self.found
        score, best = self.found.max(0)
        return torch.where(score > threshold, best + 1, 0)


@dataclass(frozen=True)
class Quality:
    """What a set's metrics have counted.

    Args:
        confusion: [1+C, 2+C] pixels by truth and prediction, of seeds at the oracle threshold.
        sweep: of seeds; None for masks.
        marks: the thresholds of seeds by name, "oracle" and perhaps "label_free".
    """

    confusion: Tensor
    sweep: SweepResult | None
    marks: dict[str, float]


def read_quality(module: LightningModule) -> Quality | None:
    """What the metrics of a module have counted on all processes, which all call this; None without masks."""
    counted = [each for each in module.modules() if isinstance(each, Metric) and each.update_called]
    for metric in counted:
        if isinstance(metric, SegmentationScore):
            return Quality(all_reduce_sum(metric.confusion).cpu(), None, {})
        if isinstance(metric, SeedSweep):
            sweep = metric.compute()
            index = sweep.thresholds.index(sweep.oracle_threshold)
            confusion = sweep_confusions(all_reduce_sum(metric.counts).cpu())[..., index]
            marks = {"oracle": sweep.oracle_threshold}
            for each in counted:
                if isinstance(each, ViewAgreement):
                    marks["label_free"] = each.compute().threshold
            return Quality(confusion, sweep, marks)
    return None


def score_panels(quality: Quality, examples: Sequence[Example], names: Sequence[str]) -> dict[str, Panel]:
    """What there is to see of a set's scores, by name.

    Args:
        quality: of the set.
        examples: of its images.
        names: of the foreground classes.
    """
    at, panels = "", {}
    if (sweep := quality.sweep) is not None:
        at = f" at the oracle threshold {sweep.oracle_threshold:.3f}"
        curve = figures.threshold_sweep(sweep.thresholds, {"seeds": sweep.miou}, {"seeds": quality.marks})
        panels["threshold_sweep"] = Panel(curve)
    panels["confusion_matrix"] = Panel(figures.confusion_matrix(quality.confusion, names, f"Confusion{at}"))
    panels["iou"] = Panel(native=_iou(quality, names))
    if examples:
        panels["predictions"] = _predictions(examples, quality.marks.get("oracle", 0.0), names)
    return panels


def _iou(quality: Quality, names: Sequence[str]) -> Table:
    """The IoU of each class, of seeds at each of the thresholds."""
    results = {"IoU": summarise_confusion(quality.confusion)}
    if quality.sweep is not None:
        results = {f"IoU, {kind}": quality.sweep.at(chosen) for kind, chosen in quality.marks.items()}
    columns = [[_number(value) for value in result.iou] for result in results.values()]
    return Table(["class", *results], list(zip(["background", *names], *columns, strict=True)))


def _predictions(examples: Sequence[Example], threshold: float, names: Sequence[str]) -> Panel:
    """Examples beside their masks, and a table of their scores, which can be filtered."""
    masks = [example.prediction(threshold) for example in examples]
    counter, labels = SegmentationScore(len(names)), mask_names(names)
    rows = []
    for example, mask in zip(examples, masks, strict=True):
        confusion = counter.count(mask, example.truth)
        result = summarise_confusion(confusion)
        present = [labels[number] for number in example.truth.unique().tolist() if 0 < number < 255]
        maps = {"truth": example.truth, "prediction": mask}
        drawn = {title: Mask(each.byte().numpy(), labels) for title, each in maps.items()}
        scores = [_number(each) for each in (image_iou(confusion), result.recall, result.precision)]
        rows.append([example.name, ", ".join(present), *scores, Overlay(denormalise(example.photo), drawn)])
    shown = slice(FIGURE)
    photos, truths = [to_photo(each.photo) for each in examples], [each.truth for each in examples]
    figure = figures.examples(photos[shown], truths[shown], {"prediction": masks[shown]}, names)
    return Panel(figure, Table(["image", "classes", "IoU", "recall", "precision", "masks"], rows))


def _number(value: float) -> float | None:
    """A score rounded for a table; None where there was nothing to divide by."""
    return None if math.isnan(value) else round(value, 2)
