"""Evaluation of masks or seeds from any tool against true masks."""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from fbr_plugin.data.readers.images import IGNORE, read_mask
from fbr_plugin.data.readers.labels import read_classes, read_ids
from fbr_plugin.errors import InputError
from fbr_plugin.files import check_file, write_text
from fbr_plugin.metrics.calibration import Calibration, CalibrationResult
from fbr_plugin.metrics.segmentation import (
    SeedSweep,
    SegmentationResult,
    SegmentationScore,
    SweepResult,
    warn_without_class,
)
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS
from fbr_plugin.postprocess.seed_files import common_suffix, existing_files, read_seed


class Evaluation(NamedTuple):
    """The result of an evaluation, and the data behind it.

    Attributes:
        class_names: names of the background and the foreground classes.
        classes_from: where the number of classes comes from.
        num_images: length of the list.
        list_sha256: hash of the list file.
        masks_sha256: hash of ids and pixels of the true masks, independent of the file encoding.
        result: quality of the masks, or of the seeds at the oracle threshold.
        sweep: quality of seeds at every threshold; None for masks.
        calibration: a threshold chosen with the masks of a few images; None for none.
    """

    class_names: tuple[str, ...]
    classes_from: str
    num_images: int
    list_sha256: str
    masks_sha256: str
    result: SegmentationResult
    sweep: SweepResult | None
    calibration: CalibrationResult | None = None


def evaluate(
    predictions: Path,
    masks: Path,
    list_file: Path,
    num_classes: int | None = None,
    class_names: list[str] | None = None,
    thresholds: Sequence[float] = BACKGROUND_THRESHOLDS,
    calibrate: Path | None = None,
    output: Path | None = None,
) -> Evaluation:
    """Score masks (ID.png) or seeds (ID.npy, ID.npz) from any tool against true masks.

    `fbr-plugin evaluate instances` scores instances.

    Args:
        predictions: folder of the masks or seeds.
        masks: folder of the true masks ID.png: 0 = background, 1..C, 255 = ignore.
        list_file: list of ids, one per line, or of pairs of image and mask.
        num_classes: number of foreground classes C; None reads it from classes.txt beside the folder of
            masks or, without that file, uses the largest class in the masks.
        class_names: names of the foreground classes; None reads classes.txt as well.
        thresholds: background thresholds at which seeds are scored.
        calibrate: list of images, of which 20 are enough, whose masks choose a threshold at which seeds are
            scored as well: a file of ids, or the name of a list beside `list_file`. They need not be on that
            list.
        output: JSON file for the results; None writes no file.
    """
    predictions, masks, list_file = Path(predictions), Path(masks), Path(list_file)
    if output is not None:
        check_file(output)
    if predictions.resolve() == masks.resolve():
        warnings.warn(f"{predictions} is the folder of the true masks itself: name another", stacklevel=2)
    ids = read_ids(list_file)
    truths = existing_files(masks, ids, ".png", "true masks")
    suffix = common_suffix(predictions, ids)
    paths = existing_files(predictions, ids, suffix, "predictions")
    names, source = read_classes(masks, truths, num_classes, class_names)
    if suffix == ".png" and tuple(thresholds) != BACKGROUND_THRESHOLDS:
        raise InputError(f"{predictions} holds masks, which have no threshold: leave out {[*thresholds]}")
    metric = SegmentationScore(len(names) - 1) if suffix == ".png" else SeedSweep(len(names) - 1, thresholds)
    calibration = None
    if calibrate is not None:
        if isinstance(metric, SegmentationScore):
            raise InputError(
                f"{predictions} holds masks, which have no threshold: leave out calibrate={calibrate}"
            )
        beside = list_file.parent / f"{calibrate}.txt"
        chosen = read_ids(beside if beside.is_file() else Path(calibrate))
        calibration = _calibration(predictions, masks, chosen, suffix, metric)
    digest = hashlib.sha256()
    for name, path, truth_path in zip(tqdm(ids, "evaluate", disable=None), paths, truths, strict=True):
        truth = read_mask(truth_path, metric.num_classes)
        digest.update(f"{name} {truth.shape}".encode() + truth.tobytes())
        tensors = _tensors(path, metric, truth.shape)
        with _naming(path):
            metric.update(tensors[0], torch.from_numpy(truth), *tensors[1:])
    figures = metric.compute()
    evaluation = Evaluation(
        class_names=names,
        classes_from=source,
        num_images=len(ids),
        list_sha256=hashlib.sha256(list_file.read_bytes()).hexdigest(),
        masks_sha256=digest.hexdigest(),
        result=figures.oracle if isinstance(figures, SweepResult) else figures,
        sweep=figures if isinstance(figures, SweepResult) else None,
        calibration=calibration,
    )
    if output is not None:
        _write_json(Path(output), evaluation)
    warn_without_class(evaluation.result.recall)
    return evaluation


def evaluation_table(evaluation: Evaluation) -> str:
    """Lay out an evaluation for the terminal, in percent."""
    result, sweep = evaluation.result, evaluation.sweep
    width = max(map(len, (*evaluation.class_names, "mIoU")))
    lines = [f"{evaluation.num_images} images, classes from {evaluation.classes_from}"]
    if sweep:
        cells = [f"{cut:5.3f} {miou:6.2f}" for cut, miou in zip(sweep.thresholds, sweep.miou, strict=True)]
        lines += ["", "background threshold and mIoU"]
        lines += ["   ".join(cells[start : start + 6]) for start in range(0, len(cells), 6)]
        mark = "oracle: chosen with the masks" if len(cells) > 1 else "given"
        lines += ["", f"at threshold {sweep.oracle_threshold:.3f} ({mark})"]
    lines += ["", f"{'class':{width}}     IoU"]
    lines += [
        f"{name:{width}}  {'absent' if math.isnan(iou) else f'{iou:6.2f}'}"
        for name, iou in zip(evaluation.class_names, result.iou, strict=True)
    ]
    lines += [f"{'mIoU':{width}}  {result.miou:6.2f}", ""]
    if sweep and (found := evaluation.calibration):
        lines += [
            f"calibrated on {found.num_images} images: threshold {found.threshold:.3f}, mIoU "
            f"{sweep.at(found.threshold).miou:.2f}, expected loss against the oracle {found.loss:.2f} ± "
            f"{found.loss_std:.2f}",
            "",
        ]
    if result.absent:
        lines.append(
            f"{len(result.absent)} classes occur in neither masks nor predictions: left out of the mean"
        )
    if result.unlabelled:
        lines.append(
            f"{result.unlabelled:.2f}% of the pixels have no prediction ({IGNORE}): counted as wrong"
        )
    shares = {"foreground recall": result.recall, "precision": result.precision, "accuracy": result.accuracy}
    lines.append(", ".join(f"{name} {share:.2f}" for name, share in shares.items()))
    lines += [f"list sha256  {evaluation.list_sha256}", f"masks sha256 {evaluation.masks_sha256}"]
    return "\n".join(lines)


def _calibration(
    predictions: Path, masks: Path, ids: Sequence[str], suffix: str, sweep: SeedSweep
) -> CalibrationResult:
    """The threshold that the masks of some images choose."""
    truths = existing_files(masks, ids, ".png", "true masks of the calibration list")
    paths = existing_files(predictions, ids, suffix, "predictions of the calibration list")
    calibration = Calibration(sweep.num_classes, sweep.thresholds)
    for name, path, truth_path in zip(ids, paths, truths, strict=True):
        truth = read_mask(truth_path, sweep.num_classes)
        scores, keys = _tensors(path, sweep, truth.shape)
        with _naming(path):
            calibration.update(name, scores, torch.from_numpy(truth), keys)
    return calibration.compute()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name a file in an error about its content."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _tensors(path: Path, metric: SegmentationScore | SeedSweep, size: tuple[int, ...]) -> tuple[Tensor, ...]:
    """A prediction as tensors for a metric: a mask [H, W], or scores [M, H, W] and keys [M] of a seed."""
    if isinstance(metric, SegmentationScore):
        return (torch.from_numpy(read_mask(path, metric.num_classes)),)
    seed = read_seed(path, empty_size=(size[0], size[1]))
    return torch.from_numpy(seed.scores), torch.from_numpy(seed.keys)


def _write_json(path: Path, evaluation: Evaluation) -> None:
    """Write all results; nan becomes null."""
    sweep, calibration = evaluation.sweep, evaluation.calibration
    calibrated = (
        {
            "num_images": calibration.num_images,
            "miou_calibrated": sweep.at(calibration.threshold).miou,
            **calibration.scores(),
        }
        if sweep and calibration
        else None
    )
    content = evaluation._asdict() | {
        "result": evaluation.result._asdict(),
        "calibration": calibrated,
        "sweep": sweep
        and {
            "thresholds": sweep.thresholds,
            "miou": sweep.miou,
            "oracle_threshold": sweep.oracle_threshold,
        },
    }
    write_text(path, json.dumps(without_nan(content), indent=2) + "\n")


def without_nan(value: object) -> object:
    """Replace nan, which JSON does not have, by None in nested containers."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value
