"""`fbr-plugin doctor`: check a data set before training, and write mended copies of what is safe to mend."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from fbr_plugin.cli.options.names import PHOTOS
from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.doctor.checks.folders import check_layout
from fbr_plugin.doctor.checks.lists import check_classes
from fbr_plugin.doctor.checkup import check
from fbr_plugin.doctor.findings import Report, table
from fbr_plugin.doctor.fixes import mend, mend_encoding
from fbr_plugin.errors import InputError


def parser() -> Parser:
    """The parser of the command."""
    result = Parser(
        prog="fbr-plugin doctor",
        description="Check lists, labels, photos and masks of a data set, and print a remedy for each fault. "
        "The exit code is 1 if there is an error, with which training would stop or learn from wrong data.",
    )
    result.add_argument("--config", type=Path, help="YAML file of fit or pipeline, whose data is checked")
    what = "the data, as for fit; default: your own photos, FolderDataModule"
    result.add_subclass_arguments(WSSSDataModule, "data", required=True, help=what)
    result.add_argument("--photos", type=bool, default=True, help="whether to read the photos as well")
    what = "name all cases of a finding, not the first three"
    result.add_argument("--all", action="store_true", help=what)
    what = "write mended copies beside the files, never over them"
    result.add_argument("--fix", action="store_true", help=what)
    what = "processes that read files; default: one for each core"
    result.add_argument("--workers", type=int, default=os.cpu_count() or 1, help=what)
    return result


def run(words: list[str]) -> None:
    """Check a data set, print what was found, and end with the exit code 1 if there are errors.

    Args:
        words: the command's name and its options.
    """
    options = parser()
    config = options.parse_args(with_data(words[1:]))
    if config.workers < 1:
        raise InputError(f"--workers must be at least 1, got {config.workers}")
    report = Report()
    try:
        data = options.instantiate(config).data
    except ValueError as error:  # the parser's, caused by that of the data module
        root = Path(config.data.init_args.get("root", ""))
        classes_file = root / "classes.txt"
        if str(classes_file) in str(error.__cause__ or error):
            check_layout(root, report)
        check_classes(classes_file, report)
        if not report.errors:
            raise
        print(table(report, config.all))
        print(f"nothing else is checked, since the data cannot be opened: {error.__cause__ or error}")
        _say(mend_encoding(classes_file) if config.fix else ())
        sys.exit(1)
    subject, files = check(data, report, config.photos, config.workers)
    print(table(report, config.all))
    _say(mend(subject, files) if config.fix else ())
    if report.errors:
        sys.exit(1)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def with_data(words: list[str]) -> list[str]:
    """Options in which `--config FILE` has become the data in that file; without any, a folder of photos.

    Raises:
        ValueError: the options name no data.
    """
    if not any(word.startswith(("--data", "--config", "-h", "--help")) for word in words):
        raise InputError("the data are missing: give --data.root PHOTOS, --data CLASS, or --config FILE")
    named = any(word.partition("=")[0] in ("--config", "--data") for word in words)
    result = [] if named else [f"--data={PHOTOS}"]
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name != "--config":
            result.append(word)
        else:
            result.append(f"--data={json.dumps(_data_of(Path(value if equals else next(left, ''))))}")
    return result


def _data_of(path: Path) -> dict[str, Any]:
    """The settings of the data in a YAML file, which the entry point has found to be one."""
    data = yaml.safe_load(path.read_text()).get("data")
    if not isinstance(data, dict):
        raise InputError(f"{path} has no settings of the data: write them under data:, as fit takes them")
    return data
