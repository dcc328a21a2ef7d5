"""`fbr-plugin browse`: seeds, masks and instances of runs side by side, as a page for a browser."""

import json
from pathlib import Path

from jsonargparse import Namespace

from fbr_plugin.browse.page import check_output, write_page
from fbr_plugin.browse.runs import open_runs, pipeline_report
from fbr_plugin.cli.compare import add_images, check_images, plain_images
from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.readers.files import IMAGE_SUFFIXES
from fbr_plugin.data.readers.labels import read_ids
from fbr_plugin.data.sources import ListedSource, Source
from fbr_plugin.errors import InputError, MissingFileError
from fbr_plugin.postprocess import comparison
from fbr_plugin.postprocess.comparison import Predictions


def parser() -> Parser:
    """The parser of the command."""
    result = Parser(
        prog="fbr-plugin browse",
        description="Write a folder with a page, index.html, that shows images with their truth and the "
        "seeds, masks and instances of runs side by side. A slider sets the background threshold of all "
        "seeds. The page needs no server and no network.",
    )
    add = result.add_argument
    what = "folder of seeds ID.npy or ID.npz, masks ID.png or instances ID.json, or a pipeline's output"
    add("runs", nargs="+", type=Path, metavar="RUN", help=what)
    add_images(result)
    what = "images to show: a text file of ids, or a list of the data; default: those that any run has"
    add("--list", metavar="LIST", help=what)
    add("--names", nargs="+", help="what the runs are called")
    add("--output", type=Path, default=Path("browse"), help="the folder to write")
    return result


def run(words: list[str]) -> None:
    """Write the page.

    Args:
        words: the command's name and its options.
    """
    options = parser()
    config = options.parse_args(words[1:])
    reports = filter(None, map(pipeline_report, config.runs))
    if config.data is None and config.images is None and (report := next(reports, None)):
        config = options.parse_args([*words[1:], "--data", json.dumps(report["settings"]["data"])])
    check_images(config)
    check_output(config.output)
    source, predictions, class_names = _images(config, options.instantiate(config).data)
    write_page(config.output, source, predictions, class_names)
    size = sum(file.stat().st_size for file in config.output.rglob("*") if file.is_file())
    print(f"written: {config.output / 'index.html'} ({len(source)} images, {size / 1e6:.1f} MB in all)")


def _images(
    config: Namespace, data: WSSSDataModule | None
) -> tuple[Source, list[Predictions], tuple[str, ...]]:
    """The images that are shown, the folders of their predictions, and the names of the classes."""
    if data is not None:
        data.prepare_data()
        sources = [data.dataset("test").source, data.dataset("predict").source]
        ids = data.listed(config.list) if config.list else [name for each in sources for name in each.ids]
    else:
        if not config.images.is_dir():
            raise MissingFileError(f"--images {config.images} does not exist: name the folder of the images")
        inside = sorted(path.stem for path in config.images.iterdir() if path.suffix in IMAGE_SUFFIXES)
        if not inside:
            raise InputError(f"--images {config.images} holds no image: name the folder of ID.jpg or ID.png")
        ids = read_ids(Path(config.list)) if config.list else inside
    predictions = open_runs(config.runs, ids, config.names)
    ids = _predicted(list(dict.fromkeys(ids)), predictions)
    if data is not None:
        return ListedSource(ids, *sources), predictions, data.class_names
    source, class_names = plain_images(config, ids, {})
    return source, predictions, class_names


def _predicted(ids: list[str], predictions: list[Predictions]) -> list[str]:
    """Those of some images that any folder has a file of."""
    lacking = comparison.without_file(ids, {each.folder: (each.suffix,) for each in predictions})
    nowhere = set(ids).intersection(*(lacking.get(each.folder, ()) for each in predictions))
    if nowhere:
        print(f"left out: {len(nowhere)} of {len(ids)} images, of which no run has a file")
    return [name for name in ids if name not in nowhere]
