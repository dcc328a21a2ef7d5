"""Checks of the masks, alone and against photos and image labels."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers.images import HIGH_DEPTH, IGNORE
from fbr_plugin.doctor.colours import is_recoverable, reordered
from fbr_plugin.doctor.findings import Report
from fbr_plugin.doctor.inspection import MODES_OF_MASKS, Inspected, Mask, Photo
from fbr_plugin.doctor.subject import Labels, Subject

_TRANSPOSED = 5  # EXIF orientations from here on exchange height and width
_SURE, _UNSURE = (
    0.95,
    0.8,
)  # agreement of labels with the right class of a mask, and with a wrong one, at least and at most


def check_masks(found: Mapping[str, Inspected], subject: Subject, report: Report) -> dict[str, Mask]:
    """Check the masks; return those that hold valid class numbers."""
    masks = {name: each.mask for name, each in found.items() if isinstance(each.mask, Mask)}
    count = subject.data.num_classes
    report.add(
        "error",
        "masks that cannot be read",
        [name for name, each in found.items() if isinstance(each.mask, str)],
        "they are truncated or no images: copy them again",
    )
    _check_sizes(found, report)
    report.add(
        "error",
        "masks saved as JPEG",
        [name for name, mask in masks.items() if mask.format == "JPEG"],
        "JPEG changes class numbers: make them again, as grey or palette PNG",
    )
    report.add(
        "error",
        "masks of more than 8 bits",
        [name for name, mask in masks.items() if mask.mode in HIGH_DEPTH],
        "they hold class numbers in a form that is not read: save them as grey PNG of 8 bits",
    )
    unread = {name for name, mask in masks.items() if mask.format == "JPEG" or mask.mode in HIGH_DEPTH}
    masks = {name: mask for name, mask in masks.items() if name not in unread}
    coloured = [name for name, mask in masks.items() if mask.mode not in MODES_OF_MASKS]
    easy = {name for name, mask in masks.items() if is_recoverable(mask, count)}
    convert = "convert them to class numbers (--fix does where all colours are VOC's)"
    report.add("error", "masks that hold colours, not class numbers", coloured, convert)
    wrong = {name: [n for n in mask.counts if count < n < IGNORE] for name, mask in masks.items()}
    wrong = {name: numbers for name, numbers in wrong.items() if numbers}
    shuffled = reordered(masks, count)
    report.add(
        "error",
        "masks whose palette has VOC's colours in another order",
        shuffled,
        f"their numbers are not the class numbers: {convert}",
    )
    report.add(
        "error",
        "masks whose values are VOC's colours in grey",
        [name for name in wrong if name in easy],
        convert,
    )
    rest = [name for name in wrong if name not in easy and name not in shuffled]
    report.add(
        "error",
        "masks with values beyond the classes",
        [f"{name} ({', '.join(map(str, wrong[name][:3]))})" for name in rest],
        f"a mask of {count} classes holds 0, 1..{count} and {IGNORE}: correct the masks, or name the classes",
    )
    valid = {name: mask for name, mask in masks.items() if name not in {*coloured, *wrong, *shuffled}}
    ignored = [name for name, mask in valid.items() if {*mask.counts} == {IGNORE}]
    empty = [name for name, mask in valid.items() if {*mask.counts} == {0}]
    report.add(
        "warning",
        f"masks that are {IGNORE} everywhere",
        ignored,
        "they score nothing: draw them, or take them off the list",
    )
    if not any(mask.classes() for mask in valid.values()):
        report.add(
            "error",
            f"masks of 0 and {IGNORE} alone",
            [name for name, mask in valid.items() if {*mask.counts} == {0, IGNORE}],
            f"{IGNORE} is ignored and no object: write the number of its class, 1..{count}, in its place",
        )
        valid = {name: mask for name, mask in valid.items() if {*mask.counts} != {0, IGNORE}}
    drawn = {name: mask for name, mask in valid.items() if mask.classes()}
    if not any(0 in mask.counts for mask in drawn.values()):
        remedy = f"the background is 0: write it where {IGNORE} or a class stands for it"
        report.add("warning", "no mask has background", drawn, remedy)
    if subject.is_coco:
        report.figures.append(f"masks without an object: {len(empty)}")
    else:
        report.add(
            "warning",
            "masks without an object",
            empty,
            "all that is predicted there is wrong: is the object not drawn, or is the mask another image's?",
        )
    return {name: mask for name, mask in valid.items() if name not in {*ignored, *empty}}


def _check_sizes(found: Mapping[str, Inspected], report: Report) -> None:
    """Compare the sizes of photos and masks."""
    pairs = {
        name: (each.photo, each.mask)
        for name, each in found.items()
        if isinstance(each.photo, Photo) and isinstance(each.mask, Mask) and each.photo.size != each.mask.size
    }
    turned = [
        name
        for name, (photo, mask) in pairs.items()
        if photo.orientation >= _TRANSPOSED and photo.size == mask.size[::-1]
    ]
    report.add(
        "error",
        "masks drawn on photos that were not turned upright",
        turned,
        "the photo is turned by its EXIF data, its mask is not: turn the mask, or save the photo upright",
    )
    report.add(
        "error",
        "mask and photo differ in size",
        [
            f"{name} (mask {mask.size[1]}x{mask.size[0]}, photo {photo.size[1]}x{photo.size[0]})"
            for name, (photo, mask) in pairs.items()
            if name not in turned
        ],
        "resize the mask to its photo by the nearest pixel, if it is this photo's mask",
    )


def labels_of_masks(masks: Mapping[str, Mask], num_classes: int) -> Labels:
    """Image labels [C] of masks."""
    numbers = np.arange(1, num_classes + 1)
    return {name: np.isin(numbers, [*mask.counts]).astype(np.float32) for name, mask in masks.items()}


def check_agreement(masks: Mapping[str, Mask], subject: Subject, report: Report) -> None:
    """Compare image labels with masks that have an object."""
    names, count = subject.class_names, subject.data.num_classes
    common = [name for name in masks if name in subject.labels]
    if not common:
        return
    drawn_by_id = labels_of_masks(masks, count)
    labelled = np.stack([subject.labels[name] > 0 for name in common])
    drawn = np.stack([drawn_by_id[name] > 0 for name in common])
    if swapped := _swapped(labelled, drawn):
        files = " or ".join(path.name for path in (subject.classes_file, subject.label_file) if path)
        report.add(
            "error",
            "classes in another order in masks than in the list of classes",
            [f"{value + 1} is {names[label]}" for value, label in swapped.items()],
            "the number of a class is its place in the list of classes: look at a mask, then correct "
            f"{files}, or convert the masks",
        )
        return
    agree = int((labelled == drawn).all(1).sum())
    report.figures.append(f"image labels and masks agree in {agree} of {len(common)} images")
    for what, wrong, remedy in (
        (
            "classes in the image labels, but not in the mask",
            labelled & ~drawn,
            "correct the label, or draw the object; if it is drawn as 255, ignore this",
        ),
        (
            "classes in the mask, but not in the image labels",
            drawn & ~labelled,
            "add the class to the image's labels: training takes the object for background",
        ),
    ):
        cases = [
            f"{common[row]} ({', '.join(names[column] for column in np.flatnonzero(wrong[row]))})"
            for row in np.flatnonzero(wrong.any(1))
        ]
        report.add("warning", what, cases, remedy)


def _swapped(labelled: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> dict[int, int]:
    """The class of the labels [N, C] that each wrong class of the masks [N, C] stands for; from 0."""
    present = np.flatnonzero(drawn.any(0) & ~drawn.all(0))
    agreement = (drawn[:, :, None] == labelled[:, None, :]).mean(0)  # [C of masks, C of labels]
    best = {int(value): int(agreement[value].argmax()) for value in present}
    found = {
        value: label
        for value, label in best.items()
        if agreement[value, label] >= _SURE and agreement[value, value] <= _UNSURE
    }
    return found if len(found) > 1 else {}
