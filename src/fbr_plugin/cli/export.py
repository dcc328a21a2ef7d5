"""`fbr-plugin export`: convert masks, seeds or instances to another format."""

from pathlib import Path

from fbr_plugin.cli.options.parser import Parser, given

FORMATS = ("voc", "coco", "irn", "amn", "seam", "compact", "coco-instances", "voc-instances")


def parser() -> Parser:
    """The parser of the command; the function `export` has the same settings."""
    result = Parser(
        prog="fbr-plugin export",
        description="Convert masks (ID.png), seeds (ID.npy, ID.npz) or instances (ID.json) to another "
        "format.",
        allow_abbrev=True,  # --list for --list_file
    )
    add = result.add_argument
    what = "folder of the masks, seeds or instances"
    add("--predictions", type=Path, required=True, metavar="DIR", help=what)
    what = "list of ids, one per line, or of pairs of image and mask"
    add("--list_file", type=Path, required=True, metavar="FILE", help=what)
    what = (
        "voc packs masks into the tar.gz for PASCAL VOC's server, and coco writes them as a JSON of COCO's "
        "run-length codes; irn, amn, seam and compact convert seeds to that layout; coco-instances writes "
        "instances as one annotation file of COCO, voc-instances as folders SegmentationObject and "
        "SegmentationClass"
    )
    add("--what", choices=FORMATS, required=True, help=what)
    what = "the archive, the JSON file, or the folder to write"
    add("--output", type=Path, required=True, metavar="PATH", help=what)
    what = (
        "folder of the images, to check the sizes of the masks for voc, and for the names of the files in "
        "coco-instances"
    )
    add("--image_dir", type=Path, metavar="DIR", help=what)
    what = (
        "whether coco and coco-instances map the classes 1 to 80 to COCO's category ids, up to 90; false "
        "keeps the numbers, of any classes"
    )
    add("--coco_ids", type=bool, default=True, help=what)
    return result


def run(words: list[str]) -> None:
    """Write the files and print where they are.

    Args:
        words: the command's name and its options.
    """
    settings = given(parser(), words[1:])
    from fbr_plugin.postprocess.exports import export

    print(f"written: {export(**settings)}")
