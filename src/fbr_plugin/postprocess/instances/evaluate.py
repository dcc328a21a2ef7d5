"""Evaluation of a folder of instances against true instances."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from fbr_plugin.data.instances.arrays import to_tensors
from fbr_plugin.data.instances.files import read_instances
from fbr_plugin.data.instances.voc import CLASSES, read_voc_instances
from fbr_plugin.data.readers.files import spellings
from fbr_plugin.data.readers.instances import AnnotationFile, instances_of, read_annotations
from fbr_plugin.data.readers.labels import read_classes, read_ids
from fbr_plugin.errors import InputError
from fbr_plugin.files import check_file, write_text
from fbr_plugin.instances import Instances
from fbr_plugin.metrics.coco_ap import COCOInstanceAP
from fbr_plugin.metrics.instances import AP_IOUS, InstanceAP, InstanceResult
from fbr_plugin.postprocess.evaluate import without_nan
from fbr_plugin.postprocess.seed_files import existing_files


class InstanceEvaluation(NamedTuple):
    """Scores of the instances of a set, in percent.

    Attributes:
        num_images: number of images.
        result: VOC's AP, AP^r_vol and ABO.
        coco: figures of `COCOInstanceAP` by name.
        class_names: names of the C classes; empty if unknown.
    """

    num_images: int
    result: InstanceResult
    coco: dict[str, float]
    class_names: tuple[str, ...] = ()

    def scores(self) -> dict[str, float]:
        """All figures of the set by name."""
        return {**self.result.scores(), **self.coco}


def evaluate_instances(
    folder: Path, targets: Iterable[tuple[str, Instances]], num_classes: int
) -> InstanceEvaluation:
    """Score the instances `ID.json` of a folder.

    Args:
        folder: folder of the instances.
        targets: ids of the images and their true instances, taken one at a time.
        num_classes: C.
    """
    voc, coco, number = InstanceAP(num_classes), COCOInstanceAP(), 0
    coco.warn_on_many_detections = False  # COCO's limit of 100, which its figures are known to have
    for name, truth in targets:
        (path,) = existing_files(folder, [name], ".json", "instances")
        pred = to_tensors(read_instances(path, num_classes))
        try:
            voc.update([pred], [truth])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        coco.update([pred], [truth])
        number += 1
    if not number:
        raise InputError(f"there is no image to score the instances in {folder} on: give a list of images")
    return InstanceEvaluation(number, voc.compute(), coco.compute())


def score_instances(
    predictions: Path,
    truth: Path,
    list_file: Path,
    num_classes: int | None = None,
    class_names: list[str] | None = None,
    output: Path | None = None,
) -> InstanceEvaluation:
    """Score instances (ID.json) from any tool against true instances.

    Args:
        predictions: folder of the instances.
        truth: the folder SegmentationObject, beside which SegmentationClass lies, or an annotation file of
            COCO.
        list_file: list of ids, one per line, or of pairs of image and mask.
        num_classes: number of classes C, for the folder; None reads it from classes.txt beside it or, without
            that file, uses the largest class in the masks. The file of COCO lists its categories.
        class_names: names of the classes, for the folder; None reads classes.txt as well.
        output: JSON file for the results; None writes no file.
    """
    predictions, truth, ids = Path(predictions), Path(truth), read_ids(Path(list_file))
    if output is not None:
        check_file(output)
    existing_files(predictions, ids, ".json", "instances")
    targets: Iterator[tuple[str, Instances]]
    if truth.is_dir():
        objects = existing_files(truth, ids, ".png", "true masks of objects")
        classes = existing_files(truth.parent / CLASSES, ids, ".png", "true masks of classes")
        names = read_classes(truth, classes, num_classes, class_names)[0][1:]
        read = (read_voc_instances(*pair, len(names)) for pair in zip(objects, classes, strict=True))
        targets = zip(ids, map(to_tensors, read), strict=True)
    else:
        file = read_annotations(truth, categories=None)
        names, targets = file.class_names, _annotated(file, ids)
    targets = iter(tqdm(targets, "evaluate", len(ids), disable=None))
    evaluation = evaluate_instances(predictions, targets, len(names))._replace(class_names=names)
    if output is not None:
        content = evaluation._asdict() | {"result": evaluation.result._asdict()} | evaluation.scores()
        write_text(output, json.dumps(without_nan(content), indent=2) + "\n")
    return evaluation


def _annotated(file: AnnotationFile, ids: Sequence[str]) -> Iterator[tuple[str, Instances]]:
    """The true instances of a list, found under any spelling of the images' names."""
    for name in ids:
        found = [each for each in spellings(name) if each in file.sizes]
        if not found:
            raise InputError(f"{file.path} lists no image {name}: is it the file of another list?")
        yield name, to_tensors(instances_of(file, found[0]))


def instance_table(evaluation: InstanceEvaluation) -> str:
    """Lay out an evaluation for the terminal, in percent."""
    result = evaluation.result
    classes = evaluation.class_names or [f"class {k + 1}" for k in range(len(result.counts))]
    width = max(map(len, (*classes, "mean")))
    heads = [*(f"AP{round(100 * iou)}" for iou in AP_IOUS), "ABO"]
    rows = [
        (name, (*ap, abo)) for name, ap, abo in zip(classes, result.class_ap, result.class_abo, strict=True)
    ]
    lines = [f"{evaluation.num_images} images, {sum(result.counts)} true instances", ""]
    lines.append(f"{'class':{width}}  {'  '.join(f'{head:>6}' for head in heads)}")
    for name, values in rows:
        cells = "absent" if math.isnan(values[0]) else "  ".join(f"{value:6.2f}" for value in values)
        lines.append(f"{name:{width}}  {cells}")
    lines += ["", f"mean of these AP {result.mean_ap:.2f}, AP^r_vol {result.ap_volume:.2f}"]
    lines.append(", ".join(f"{name} {value:.2f}" for name, value in evaluation.coco.items()))
    if result.absent:
        lines.append(f"{len(result.absent)} classes have no true instances: left out of all means")
    return "\n".join(lines)
