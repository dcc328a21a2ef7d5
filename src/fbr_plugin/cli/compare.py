"""`fbr-plugin compare`: folders of masks or seeds side by side, as a figure and a table of scores."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jsonargparse import Namespace
from matplotlib.figure import Figure
from tqdm import tqdm

from fbr_plugin import figures
from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.readers.files import IMAGE_SUFFIXES, find_file
from fbr_plugin.data.readers.labels import read_classes, read_ids
from fbr_plugin.data.sources import LayoutSource, ListedSource, Source
from fbr_plugin.errors import InputError, MissingFileError, check_choice
from fbr_plugin.figures import MAX_ROWS
from fbr_plugin.figures.choice import largest_changes, quantile_rows, random_rows
from fbr_plugin.files import check_file
from fbr_plugin.postprocess import comparison
from fbr_plugin.postprocess.comparison import Comparison, Predictions


def parser() -> Parser:
    """The parser of the command."""
    result = Parser(
        prog="fbr-plugin compare",
        description="Draw images, their true masks and the predictions of several folders side by side, with "
        "the IoU of each image, and write the IoU of every image and folder as a CSV file beside the figure.",
    )
    add = result.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="masks ID.png or seeds ID.npy, ID.npz")
    add_images(result)
    what = "images to compare: a text file of ids, or a list of the data; default: those in every folder"
    add("--list", metavar="LIST", help=what)
    add("--names", nargs="+", help="what the folders are called in the figure")
    what = "score that a seed's class must exceed: one for all folders of seeds, or one for each"
    add("--thresholds", nargs="+", type=float, help=what)
    what = "images to show, by the change in IoU from the first folder to the last: those at its quantiles, "
    what += "those with the largest gain or loss, or any; default: quantiles, without masks random"
    add("--rows", choices=["quantiles", "gain", "loss", "random"], help=what)
    add("--ids", nargs="+", metavar="ID", help="show these images, or those of one list, instead of --rows")
    add("--seed", type=int, default=0, help="random seed of --rows random")
    add("--rows_per_page", type=int, default=MAX_ROWS, help=f"images on a page, at most {MAX_ROWS}")
    add("--pages", type=int, help="most pages; default: 1, with --ids as many as it takes")
    what = "PDF, or PNG, of which several pages are numbered"
    add("--output", type=Path, default=Path("comparison.png"), help=what)
    return result


def add_images(result: Parser) -> None:
    """Add the options that say where images and their true masks are."""
    add = result.add_argument
    result.add_subclass_arguments(WSSSDataModule, "data", required=False, help="where images and masks are")
    add("--images", type=Path, metavar="DIR", help="folder of images, instead of --data")
    add("--masks", type=Path, metavar="DIR", help="folder of true masks ID.png, with --images")
    add("--num_classes", type=int, help="as in `fbr-plugin evaluate`, with --images")
    add("--class_names", nargs="+", help="as in `fbr-plugin evaluate`, with --images")


def run(words: list[str]) -> None:
    """Score the folders, write figure and table, and print a line for each folder.

    Args:
        words: the command's name and its options.
    """
    options = parser()
    config = options.parse_args(words[1:])
    _check(config)
    data = options.instantiate(config).data
    source, predictions, class_names = _images(config, data)
    scores = comparison.compare(source, predictions) if "mask" in source[0] else None
    (rows, rule), size = _rows(config, source, scores), config.rows_per_page
    pages = tqdm([rows[start : start + size] for start in range(0, len(rows), size)], "draw", disable=None)
    drawn = (_page(source, page, predictions, class_names, scores is not None, rule) for page in pages)
    files = figures.save_pages(drawn, config.output, len(pages))
    if scores is not None:
        files.append(config.output.with_suffix(".csv"))
        comparison.write_scores(files[-1], scores)
        print(comparison.comparison_table(scores))
    else:
        print("no true masks: images are drawn, not scored")
    print(f"written: {', '.join(map(str, files))}")


def _check(config: Namespace) -> None:
    """Raise for options that cannot be used together."""
    check_choice(f"the suffix of --output {config.output}", config.output.suffix, (".png", ".pdf"))
    check_images(config)
    if config.ids and config.rows:
        raise InputError(f"--ids and --rows {config.rows} exclude each other: give one of them")
    for name in ("rows_per_page", "pages"):
        if config[name] is not None and config[name] < 1:
            raise InputError(f"--{name} must be at least 1, got {config[name]}")
    if config.rows_per_page > MAX_ROWS:
        raise InputError(
            f"--rows_per_page {config.rows_per_page} is more than the {MAX_ROWS} that a screen has room for: "
            "give more --pages"
        )
    check_file(config.output)


def check_images(config: Namespace) -> None:
    """Raise unless the options of `add_images` name one place."""
    plain = [name for name in ("images", "masks", "num_classes", "class_names") if config[name] is not None]
    if config.data is None and config.images is None:
        raise InputError("the images are missing: give --images DIR, or --data CLASS --data.root DIR")
    if config.data is not None and plain:
        raise InputError(f"--data and --{plain[0]} exclude each other: a data module has images and masks")


def _images(
    config: Namespace, data: WSSSDataModule | None
) -> tuple[Source, list[Predictions], tuple[str, ...]]:
    """The images that are compared, the folders of their predictions, and the names of the classes."""
    if data is not None:
        data.prepare_data()
        whole = data.dataset("test").source
        ids = data.listed(config.list) if config.list else whole.ids
    else:
        ids = read_ids(Path(config.list)) if config.list else comparison.ids_in(config.folders[0])
    ids = list(dict.fromkeys(ids))
    predictions = comparison.open_folders(config.folders, ids, config.names, config.thresholds)
    suffixes: dict[Path, tuple[str, ...]] = {each.folder: (each.suffix,) for each in predictions}
    if data is not None:
        common = _common(config, ids, suffixes)
        return ListedSource(common, whole), predictions, data.class_names
    source, class_names = plain_images(config, ids, suffixes)
    return source, predictions, class_names


def plain_images(
    config: Namespace, ids: list[str], suffixes: Mapping[Path, tuple[str, ...]]
) -> tuple[Source, tuple[str, ...]]:
    """The images of the folders `--images` and `--masks`, and the names of their classes.

    Args:
        config: the options of `add_images` and `--list`.
        ids: of the images; those that lack a file are left out, or an error if they were listed.
        suffixes: those of the files that images have in other folders.
    """
    suffixes = {**suffixes, config.images: IMAGE_SUFFIXES}
    if config.masks is not None:
        suffixes[config.masks] = (".png",)
    common = _common(config, ids, suffixes)
    masks = [] if config.masks is None else [find_file(config.masks, name) for name in common]
    beside = config.masks or config.images
    names = read_classes(beside, masks, config.num_classes, config.class_names)[0][1:]
    return LayoutSource(common, config.images, config.masks, len(names), None), names


def _common(config: Namespace, ids: list[str], suffixes: Mapping[Path, tuple[str, ...]]) -> list[str]:
    """The ids of which every folder has a file: of a list, all of them must be such."""
    lacking = comparison.without_file(ids, suffixes)
    for folder, names in lacking.items():
        lack = f"{folder} lacks {len(names)} of {len(ids)} images, the first is {names[0]}"
        if config.list or len(names) == len(ids):
            raise MissingFileError(f"{lack}: is this the right folder, and the right list?")
        print(f"left out: {lack}")
    left_out = {name for names in lacking.values() for name in names}
    common = [name for name in ids if name not in left_out]
    if not common:
        raise InputError(
            f"no image of {len(ids)} has a file in every folder: compare folders of the same images"
        )
    return common


def _rows(config: Namespace, source: Source, scores: Comparison | None) -> tuple[list[int], str]:
    """The images to show, and the rule by which they were chosen."""
    if config.ids:
        (first, *more) = config.ids
        words = read_ids(Path(first)) if not more and Path(first).is_file() else config.ids
        rows = comparison.rows_of(words, source.ids)
        return rows[: config.pages and config.pages * config.rows_per_page], "Images chosen by name."
    number = (config.pages or 1) * config.rows_per_page
    if config.rows == "random" or (config.rows is None and scores is None):
        return random_rows(len(source), number, config.seed), "Images drawn at random."
    if scores is None:
        raise InputError(
            f"--rows {config.rows} needs true masks: give --masks DIR, or show images by --rows random"
        )
    change = f"from {scores.predictions[0].name} to {scores.predictions[-1].name}"
    if config.rows in ("gain", "loss"):
        rows = largest_changes(scores.iou, config.rows, number)
        rule = f"The images with the largest {config.rows} of IoU {change}."
    else:
        rows = quantile_rows(scores.iou[:, -1] - scores.iou[:, 0], number)
        rule = f"Images at evenly spaced quantiles of the change in IoU {change}, lowest first."
    if not rows:
        raise InputError("the true masks are 255 everywhere, so that no image has an IoU: give other masks")
    return rows, rule


def _page(
    source: Source,
    rows: list[int],
    predictions: list[Predictions],
    class_names: tuple[str, ...],
    scored: bool,
    rule: str,
) -> Figure:
    """Draw some images with their true masks and predictions."""
    items = [source[row] for row in rows]
    maps = {
        each.name: [
            torch.from_numpy(each.read(item["id"], item["image"], source.num_classes)) for item in items
        ]
        for each in predictions
    }
    photos = [torch.from_numpy(item["image"]).movedim(-1, 0) / 255 for item in items]
    captions = {"image": [item["id"] for item in items]}
    truths = [torch.from_numpy(item["mask"]) for item in items] if scored else None
    return figures.examples(photos, truths, maps, class_names, captions, rule)
