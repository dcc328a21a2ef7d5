"""Checks of what the folders hold: files missing from them, and files of no list."""

import os
from collections import defaultdict
from pathlib import Path

from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, spellings
from fbr_plugin.doctor.checks.lists import read_list
from fbr_plugin.doctor.findings import Report
from fbr_plugin.doctor.keys import respelled
from fbr_plugin.doctor.subject import Subject


def names_in(folder: Path) -> list[str]:
    """The names of the files in a folder, but for hidden ones; none if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(each.name for each in os.scandir(folder) if each.is_file() and each.name[0] != ".")


def check_layout(root: Path, report: Report) -> None:
    """Check that the root is the folder of the data, not one above or below it."""
    if not root.is_dir() or any((root / name).is_dir() for name in ("JPEGImages", "ImageSets")):
        return
    below = [*sorted(root.glob("*/ImageSets")), *sorted(root.glob("*/*/ImageSets"))]
    beside = [path.parent for path in (*below, root.absolute().parent / "ImageSets") if path.is_dir()]
    hint = f": give --data.root {' or '.join(map(str, beside[:3]))}, where they are" if beside else ""
    remedy = f"photos belong in JPEGImages there, lists in ImageSets/Segmentation{hint}"
    report.add("error", "a root without photos and lists", [str(root)], remedy)


def check_spelling(subject: Subject, report: Report, photos: bool) -> None:
    """Find ids that are spelled unlike their photos, or else their masks, and take the files' spelling."""
    folder = subject.image_dirs[0] if photos else subject.mask_dir
    if folder is None or subject.is_coco or None in subject.lists.values():
        return
    stems = {Path(name).stem: name for name in names_in(folder)}
    subject.misspelt = respelled(subject.all_ids(), stems)
    subject.ids = {
        key: list(dict.fromkeys(subject.misspelt.get(name, name) for name in ids))
        for key, ids in subject.ids.items()
    }
    report.add(
        "error",
        f"ids spelled unlike their files in {folder.name}",
        [f"{name} ({stems[stem]})" for name, stem in subject.misspelt.items()],
        "an id is the name of the file without suffix, with all its zeros: correct the list (--fix writes a "
        "cleaned list)",
    )


def check_photos_exist(subject: Subject, report: Report) -> dict[str, Path]:
    """Find the photo of each id; return those that exist."""
    if missing := [str(folder) for folder in subject.image_dirs if not folder.is_dir()]:
        report.add("error", "a folder of photos is missing", missing, "copy the photos there")
    paths = {name: subject.image_path(name) for name in subject.all_ids()}
    found = {name: path for name, path in paths.items() if path.is_file()}
    if missing:
        return found
    lacking = [name for name in paths if name not in found]
    if subject.is_own:
        lacking = _nearly_found(subject.image_dirs[0], lacking, report)
    subject.unusable |= {*lacking}
    remedy = "copy the photo, or take the id off the list (--fix writes a cleaned list)"
    report.add("error", "ids without a photo", lacking, remedy)
    return found


def _nearly_found(folder: Path, lacking: list[str], report: Report) -> list[str]:
    """Look for files that may be the photos of ids without one; return the ids of which there is none."""
    if not lacking:
        return []
    by_stem = {Path(name).stem: name for name in names_in(folder)}
    near = {name: other for name in lacking if (other := by_stem.get(name)) is not None}
    unread = {name for name, other in near.items() if not other.lower().endswith(IMAGE_SUFFIXES)}
    report.add(
        "error",
        "photos whose suffix mixes small and capital letters",
        [f"{name} ({other})" for name, other in near.items() if name not in unread],
        "the suffix is .jpg, .jpeg, .png or .webp, all in small or all in capital letters: rename the file",
    )
    remedy = "convert them to JPEG or PNG"
    report.add("error", "photos of a format that is not read", [near[name] for name in unread], remedy)
    return [name for name in lacking if name not in near]


def check_masks_exist(subject: Subject, report: Report) -> dict[str, Path]:
    """Find the mask of each id; return those that exist."""
    data, folder = subject.data, subject.mask_dir
    if folder is None or not isinstance(data, LayoutDataModule):
        return {}
    files = {*names_in(folder)}
    paths: dict[str, Path] = {}
    for name in subject.all_ids():
        file = next((f"{each}.png" for each in spellings(name) if f"{each}.png" in files), None)
        if file is not None:
            paths[name] = folder / file
    needed = subject.all_ids() if data.label_source == "masks" else subject.ids.get("val", [])
    stems = {Path(name).stem.casefold(): name for name in files}
    needed = [name for name in needed if name not in subject.unusable]
    lacking = [name for name in data.without_mask(needed) if name not in paths]
    near = {name: stems[name.casefold()] for name in lacking if name.casefold() in stems}
    report.add(
        "error",
        "masks with another name than ID.png",
        [f"{name} ({other})" for name, other in near.items()],
        "a mask is ID.png in small letters, of the same case as its id; JPEG damages class numbers: rename "
        "or make it again",
    )
    report.add(
        "error",
        f"ids without a mask in {folder.name}",
        [name for name in lacking if name not in near],
        "draw their masks or take them off the list; without any masks, remove the folder",
    )
    report.figures.append(f"masks: {len(paths)} of {len(subject.all_ids())} images")
    return paths


def check_rest(subject: Subject, report: Report) -> None:
    """Look for photos and masks of no list, and for several files of one photo, among the user's own."""
    if not subject.is_own:
        return
    (folder,) = subject.image_dirs
    stems = defaultdict(list)
    for name in names_in(folder):
        if name.endswith(IMAGE_SUFFIXES):
            stems[Path(name).stem].append(name)
    report.add(
        "warning",
        "photos of one id in several files",
        [" ".join(names) for names in stems.values() if len(names) > 1],
        "only one of them is read: remove or rename the others",
    )
    listed = {*subject.all_ids()}
    for path in subject.lists.values():
        if path is not None and path.parent.is_dir():
            for other in path.parent.glob("*.txt"):
                listed |= {line.name for line in read_list(other)}
    if all(subject.ids.get(name) for name in subject.lists):
        remedy = "they take no part: add them to a list, or ignore this"
        report.add("note", "photos in no list", [name for name in stems if name not in listed], remedy)
    if subject.mask_dir is not None:
        masks = [Path(name).stem for name in names_in(subject.mask_dir) if name.endswith(".png")]
        remedy = "they take no part: rename or remove them"
        report.add(
            "note",
            "masks of no photo",
            [name for name in masks if name not in stems and name not in listed],
            remedy,
        )
