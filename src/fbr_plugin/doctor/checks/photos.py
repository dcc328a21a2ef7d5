"""Checks of the photos."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from fbr_plugin.data.readers.images import HIGH_DEPTH
from fbr_plugin.doctor.findings import Report, Severity
from fbr_plugin.doctor.inspection import Inspected, Photo
from fbr_plugin.doctor.subject import Subject

_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",)}


class _Rule(NamedTuple):
    severity: Severity
    what: str
    remedy: str
    applies: Callable[[Photo], bool]


_RULES = (
    _Rule(
        "warning",
        "photos that are not what their suffix says",
        "they are read by their content here, other tools may fail: rename them, or save them anew",
        lambda photo: photo.path.suffix.lower() not in _SUFFIXES.get(photo.format, ()),
    ),
    _Rule(
        "note",
        "photos turned by their EXIF data",
        "they are turned upright here, and their masks must be upright too; other tools may not turn them",
        lambda photo: photo.orientation != 1,
    ),
    _Rule(
        "warning",
        "photos of more than 8 bits",
        "65535 is taken for white, so that photos of 10 or 12 bits are dark: save them with 8 bits",
        lambda photo: photo.mode in (*HIGH_DEPTH, "F"),
    ),
    _Rule(
        "note",
        "grey photos",
        "they are read as RGB of three equal channels",
        lambda photo: photo.mode in ("1", "L", "LA"),
    ),
    _Rule(
        "warning",
        "CMYK photos",
        "their colours are converted without a colour profile, and look unlike those of others: save them as "
        "RGB",
        lambda photo: photo.mode == "CMYK",
    ),
    _Rule(
        "warning",
        "transparent photos",
        "what lies under the transparent pixels is seen in training: save them on a background, as RGB",
        lambda photo: photo.transparent,
    ),
)


def check_photos(found: Mapping[str, Inspected], subject: Subject, report: Report) -> dict[str, Photo]:
    """Check the photos; return those that can be read."""
    photos = {name: each.photo for name, each in found.items() if isinstance(each.photo, Photo)}
    broken = [name for name, each in found.items() if isinstance(each.photo, str)]
    subject.unusable |= {*broken}
    report.add(
        "error",
        "photos that cannot be read",
        broken,
        "they are truncated or no images: copy them again, or take them off the list (--fix writes a "
        "cleaned list)",
    )
    if photos:
        sides = sorted(max(photo.size) for photo in photos.values())
        report.figures.append(
            f"photos: {len(photos)}, longer side {sides[0]} to {sides[-1]} pixels, median "
            f"{sides[len(sides) // 2]}"
        )
    for rule in _RULES:
        cases = [name for name, photo in photos.items() if rule.applies(photo)]
        report.add(rule.severity, rule.what, cases, rule.remedy)
    return photos
