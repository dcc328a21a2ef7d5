"""`fbr-plugin labels`: make labels.csv from masks, annotations, tables or folders."""

from pathlib import Path
from typing import get_args

from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.data.tables.sources import Kind, read_classes_of_images
from fbr_plugin.data.tables.table import listed_classes, write_table


def parser() -> Parser:
    """The parser of the command."""
    result = Parser(
        prog="fbr-plugin labels",
        description="Write image labels of your own photos, labels.csv, and classes.txt if there is none.",
    )
    what = (
        "a folder of masks ID.png, a folder of VOC's annotations ID.xml, a JSON file of COCO's annotations, "
        "a CSV file of images and classes, or a folder that holds a folder of photos for each class"
    )
    result.add_argument("kind", choices=get_args(Kind), help=what)
    result.add_argument("source", type=Path, metavar="PATH", help="the file or folder")
    what = "the table, beside which classes.txt lies: PHOTOS/labels.csv"
    result.add_argument("--output", type=Path, required=True, metavar="FILE", help=what)
    what = "the classes in the order of their numbers; default: classes.txt beside the table, or those found"
    result.add_argument("--class_names", nargs="+", help=what)
    result.add_argument("--replace", action="store_true", help="replace a table that exists")
    return result


def run(words: list[str]) -> None:
    """Write the table and print what was written.

    Args:
        words: the command's name and its options.
    """
    config = parser().parse_args(words[1:])
    given = config.class_names or listed_classes(config.output)
    found, class_names = read_classes_of_images(config.kind, config.source, given)
    files = write_table(config.output, found, class_names, config.replace)
    empty = sum(not classes for classes in found.values())
    print(f"{len(found)} images of {len(class_names)} classes, {empty} without a class")
    print(f"written: {', '.join(map(str, files))}")
