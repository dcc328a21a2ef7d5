"""Folders of masks or seeds side by side: the score of every image."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fbr_plugin.data.readers.files import find_file, spellings
from fbr_plugin.data.readers.images import check_same_size, read_mask
from fbr_plugin.data.sources import Source
from fbr_plugin.errors import InputError, MissingFileError
from fbr_plugin.files import write_text
from fbr_plugin.metrics.segmentation import (
    SegmentationResult,
    SegmentationScore,
    image_iou,
    summarise_confusion,
)
from fbr_plugin.metrics.sweep import check_thresholds
from fbr_plugin.postprocess.seed_files import common_suffix, read_seed
from fbr_plugin.postprocess.seeds import Seed, threshold_labels

PREDICTIONS = (".png", ".npy", ".npz")


class Predictions(NamedTuple):
    """A folder of masks or seeds, read one at a time.

    Attributes:
        name: what the folder is called in the figure.
        folder: where the files `ID.png`, `ID.npy` or `ID.npz` are.
        suffix: that of the files.
        threshold: for seeds, the score that a class must exceed; None for masks.
    """

    name: str
    folder: Path
    suffix: str
    threshold: float | None

    def read(self, name: str, image: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
        """The label map [H, W] of an image [H, W, 3]: 0 = background, 1..C, 255 = no prediction."""
        if self.threshold is not None:
            return threshold_labels(self.seed(name, image, num_classes), self.threshold, self.threshold)
        path = find_file(self.folder, name, (self.suffix,))
        labels = read_mask(path, num_classes)
        check_same_size(path, labels, image)
        return labels

    def seed(self, name: str, image: NDArray[np.uint8], num_classes: int) -> Seed:
        """The seed of an image [H, W, 3], at its size."""
        path = find_file(self.folder, name, (self.suffix,))
        seed = read_seed(path, empty_size=(image.shape[0], image.shape[1]))
        if (wrong := seed.keys[seed.keys >= num_classes]).size:
            raise InputError(f"{path}: keys must be 0 to {num_classes - 1}, got {wrong.tolist()}")
        check_same_size(path, np.empty(seed.scores.shape[1:]), image)
        return seed


def open_folders(
    folders: Sequence[Path],
    ids: Sequence[str],
    names: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
) -> list[Predictions]:
    """Find out what some folders hold for the images that are compared.

    Args:
        folders: two or more.
        ids: of the images; at least one must be in each folder.
        names: what the folders are called; None takes the ends of their paths.
        thresholds: for the folders of seeds, one for all or one for each.
    """
    if len(folders) < 2:
        raise InputError(f"a comparison needs two or more folders, got {len(folders)}")
    for folder in folders:
        if not folder.is_dir():
            raise MissingFileError(f"{folder} does not exist: name a folder of masks or seeds")
    suffixes = [common_suffix(folder, ids) for folder in folders]
    given = iter(
        _thresholds(
            [each for each, kind in zip(folders, suffixes, strict=True) if kind != ".png"], thresholds
        )
    )
    cuts = [None if kind == ".png" else next(given) for kind in suffixes]
    called = list(names or titles(folders))
    if len(called) != len(folders):
        raise InputError(f"{len(called)} names for {len(folders)} folders: give one name for each")
    seen: set[object] = {"image", "truth", "id"}
    for folder, cut, title in zip(folders, cuts, called, strict=True):
        if (folder.resolve(), cut) in seen:
            raise InputError(f"{folder} is given twice: leave it out once, or give its seeds two thresholds")
        if title in seen:
            raise InputError(f"two columns would be called {title!r}: give every folder a name of its own")
        seen |= {(folder.resolve(), cut), title}
    return [Predictions(*each) for each in zip(called, folders, suffixes, cuts, strict=True)]


def _thresholds(seeds: Sequence[Path], given: Sequence[float] | None) -> list[float]:
    """The threshold of each folder of seeds."""
    if seeds and not given:
        raise InputError(
            f"{seeds[0]} holds seeds: give the threshold that their scores must exceed, such as that of "
            "`fbr-plugin evaluate`"
        )
    if given and not seeds:
        raise InputError(f"all folders hold masks, which have no threshold: leave out {list(given)}")
    cuts = [check_thresholds([each])[0] for each in given or ()]
    cuts = cuts * len(seeds) if len(cuts) == 1 else cuts
    if len(cuts) != len(seeds):
        raise InputError(
            f"{len(cuts)} thresholds for {len(seeds)} folders of seeds: give one for all, or one for each"
        )
    return cuts


def titles(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the folders' paths that tell them apart."""
    paths = [folder.absolute().parts for folder in folders]
    depth = next(n for n in count(1) if len({parts[-n:] for parts in paths}) == len({*paths}))
    return ["/".join(parts[-depth:]) for parts in paths]


def ids_in(folder: Path) -> list[str]:
    """The ids of the masks or seeds in a folder."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder} does not exist: name a folder of masks or seeds")
    ids = sorted({path.stem for path in folder.iterdir() if path.suffix in PREDICTIONS})
    if not ids:
        raise InputError(f"{folder} holds neither masks (ID.png) nor seeds (ID.npy, ID.npz)")
    return ids


def without_file(ids: Sequence[str], folders: Mapping[Path, tuple[str, ...]]) -> dict[Path, list[str]]:
    """The ids that each folder lacks, of those folders that lack any.

    Args:
        ids: of the images.
        folders: the suffixes that files may have, by folder.
    """
    missing = {
        folder: [name for name in ids if not find_file(folder, name, suffixes).is_file()]
        for folder, suffixes in folders.items()
    }
    return {folder: names for folder, names in missing.items() if names}


class Comparison(NamedTuple):
    """The scores of several folders.

    Attributes:
        ids: names of the N images.
        predictions: the F folders.
        iou: float64 [N, F], the IoU in percent of each image's own classes: the mean over the background and
            the classes in its true mask; nan if that is 255 everywhere.
        results: for each folder, the quality over all images, as `evaluate` reports it.
    """

    ids: tuple[str, ...]
    predictions: tuple[Predictions, ...]
    iou: NDArray[np.float64]
    results: tuple[SegmentationResult, ...]


def compare(source: Source, predictions: Sequence[Predictions]) -> Comparison:
    """Score folders of predictions image by image.

    Args:
        source: images with true masks, read one at a time.
        predictions: the folders, with a file for each image.
    """
    score = SegmentationScore(source.num_classes)
    totals = [torch.zeros_like(score.confusion) for _ in predictions]
    iou = np.zeros((len(source), len(predictions)))
    for row in tqdm(range(len(source)), "compare", disable=None):
        item = source[row]
        truth = torch.from_numpy(item["mask"])
        for column, each in enumerate(predictions):
            labels = each.read(item["id"], item["image"], source.num_classes)
            confusion = score.count(torch.from_numpy(labels), truth)
            totals[column] += confusion
            iou[row, column] = image_iou(confusion)
    results = tuple(map(summarise_confusion, totals))
    return Comparison(tuple(source.ids), tuple(predictions), iou, results)


def rows_of(words: Iterable[str], ids: Sequence[str]) -> list[int]:
    """The positions of images, in the order of the words, which may be any spelling of an id."""
    known = {name: row for row, name in enumerate(ids)}
    rows = []
    for word in words:
        found = [known[name] for name in spellings(word) if name in known]
        if not found:
            raise InputError(
                f"the id {word} is not among the {len(ids)} images that are compared, such as {ids[0]}"
            )
        rows.append(found[0])
    return rows


def comparison_table(comparison: Comparison) -> str:
    """Lay out a comparison for the terminal, one folder a line, in percent."""
    width = max(len(each.name) for each in comparison.predictions)
    lines = [f"{len(comparison.ids)} images", f"{'':{width}}    mIoU  mean over images  threshold"]
    for each, result, iou in zip(comparison.predictions, comparison.results, comparison.iou.T, strict=True):
        threshold = "" if each.threshold is None else f"{each.threshold:.3f}"
        mean = np.nanmean(iou) if not np.isnan(iou).all() else np.nan
        lines.append(f"{each.name:{width}}  {result.miou:6.2f}  {mean:16.2f}  {threshold:>9}".rstrip())
    return "\n".join(lines)


def write_scores(path: Path, comparison: Comparison) -> None:
    """Write the IoU of every image and folder as a table: `id` and the folders' names, empty for nan."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", *(each.name for each in comparison.predictions)])
    for name, values in zip(comparison.ids, comparison.iou, strict=True):
        table.writerow([name, *("" if np.isnan(value) else f"{value:.4f}" for value in values)])
    write_text(path, text.getvalue())
