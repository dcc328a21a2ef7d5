"""`fbr-plugin evaluate`: score masks, seeds or instances from any tool."""

from pathlib import Path

from fbr_plugin.cli.options.parser import Parser, given


def parser() -> Parser:
    """The parser for masks and seeds; the function `evaluate` has the same settings."""
    result = Parser(
        prog="fbr-plugin evaluate",
        description="Score masks (ID.png) or seeds (ID.npy, ID.npz) from any tool against true masks. "
        "`fbr-plugin evaluate instances` scores instances.",
        allow_abbrev=True,  # --list for --list_file
    )
    add = result.add_argument
    add("--predictions", type=Path, required=True, metavar="DIR", help="folder of the masks or seeds")
    what = "folder of the true masks ID.png: 0 = background, 1..C, 255 = ignore"
    add("--masks", type=Path, required=True, metavar="DIR", help=what)
    what = "list of ids, one per line, or of pairs of image and mask"
    add("--list_file", type=Path, required=True, metavar="FILE", help=what)
    what = (
        "number of foreground classes C; default: as in classes.txt beside the folder of masks or, without "
        "that file, the largest class in the masks"
    )
    add("--num_classes", type=int, metavar="C", help=what)
    what = "names of the foreground classes; default: those in classes.txt"
    add("--class_names", nargs="+", metavar="NAME", help=what)
    what = "background thresholds at which seeds are scored; default: 0 to .99"
    add("--thresholds", nargs="+", type=float, metavar="T", help=what)
    what = (
        "list of images, of which 20 are enough, whose masks choose a threshold at which seeds are scored as "
        "well: a file of ids, or the name of a list beside --list_file; they need not be on that list"
    )
    add("--calibrate", type=Path, metavar="LIST", help=what)
    add("--output", type=Path, metavar="FILE", help="JSON file for the results")
    return result


def instance_parser() -> Parser:
    """The parser for instances; the function `score_instances` has the same settings."""
    result = Parser(
        prog="fbr-plugin evaluate instances",
        description="Score instances (ID.json) from any tool against true instances.",
        allow_abbrev=True,
    )
    add = result.add_argument
    add("--predictions", type=Path, required=True, metavar="DIR", help="folder of the instances")
    what = "the folder SegmentationObject, beside which SegmentationClass lies, or an annotation file of COCO"
    add("--truth", type=Path, required=True, metavar="PATH", help=what)
    what = "list of ids, one per line, or of pairs of image and mask"
    add("--list_file", type=Path, required=True, metavar="FILE", help=what)
    what = (
        "number of classes C, for the folder; default: as in classes.txt beside it or, without that file, "
        "the largest class in the masks; the file of COCO lists its categories"
    )
    add("--num_classes", type=int, metavar="C", help=what)
    what = "names of the classes, for the folder; default: those in classes.txt"
    add("--class_names", nargs="+", metavar="NAME", help=what)
    add("--output", type=Path, metavar="FILE", help="JSON file for the results")
    return result


def run(words: list[str]) -> None:
    """Score predictions and print the table.

    Args:
        words: the command's name, optionally `instances`, and its options.
    """
    if words[1:2] == ["instances"]:
        settings = given(instance_parser(), words[2:])
        from fbr_plugin.postprocess.instances.evaluate import instance_table, score_instances

        print(instance_table(score_instances(**settings)))
    else:
        settings = given(parser(), words[1:])
        from fbr_plugin.postprocess.evaluate import evaluate, evaluation_table

        print(evaluation_table(evaluate(**settings)))
