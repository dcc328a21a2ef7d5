"""The whole check of a data set."""

from pathlib import Path

from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.readers.files import reading_once
from fbr_plugin.doctor.checks.balance import check_balance
from fbr_plugin.doctor.checks.duplicates import check_duplicates
from fbr_plugin.doctor.checks.folders import (
    check_layout,
    check_masks_exist,
    check_photos_exist,
    check_rest,
    check_spelling,
)
from fbr_plugin.doctor.checks.labels import check_labels
from fbr_plugin.doctor.checks.lists import check_classes, check_lists
from fbr_plugin.doctor.checks.masks import check_agreement, check_masks, labels_of_masks
from fbr_plugin.doctor.checks.photos import check_photos
from fbr_plugin.doctor.findings import Report
from fbr_plugin.doctor.inspection import Inspected, inspect_all
from fbr_plugin.doctor.subject import Subject, subject_of

Files = dict[str, Inspected]


@reading_once()
def check(data: WSSSDataModule, report: Report, photos: bool, workers: int) -> tuple[Subject, Files]:
    """Check a data set; nothing is written.

    Args:
        data: its data module.
        report: takes the findings.
        photos: whether to check photos as well.
        workers: processes that read photos and masks.

    Returns:
        The data set, and the files of each image.

    Raises:
        ValueError: the data module reads no photos from disk.
    """
    subject = subject_of(data)
    if isinstance(data, LayoutDataModule) and not subject.is_coco:
        check_layout(data.root, report)
        if report.errors:
            return subject, {}
    if subject.classes_file is not None:
        check_classes(subject.classes_file, report)
    check_lists(subject, report)
    check_spelling(subject, report, photos)
    image_files: dict[str, Path] = check_photos_exist(subject, report) if photos else {}
    mask_files = check_masks_exist(subject, report)
    check_labels(subject, report)
    check_rest(subject, report)
    files = inspect_all(image_files, mask_files, workers)
    check_duplicates(check_photos(files, subject, report), subject, report)
    masks = check_masks(files, subject, report)
    if subject.label_source == "masks":
        subject.labels = labels_of_masks(masks, data.num_classes)
    else:
        check_agreement(masks, subject, report)
    check_balance(subject, report)
    _check_stages(data, report)
    return subject, files


def _check_stages(data: WSSSDataModule, report: Report) -> None:
    """Make the datasets of training and validation, as a training does first."""
    stages: tuple[Stage, ...] = ("fit", "validate")
    for stage in stages:
        with report.collecting(f"the stage {stage} would stop"):
            data.dataset(stage)
