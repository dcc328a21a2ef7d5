"""The versions of other packages that are supported."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    required = settings["options"]["install_requires"] + settings["options.extras_require"]["test"]
    bounds = re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", required, re.M)
    assert len(bounds) == len(required.split())
    pinned = re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "tests/oldest.txt").read_text(), re.M)
    assert pinned == bounds
