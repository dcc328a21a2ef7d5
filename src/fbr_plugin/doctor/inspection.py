"""Reading photos and masks, one pair at a time, on several processes where there are many."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fbr_plugin.data.readers.images import IGNORE, open_image, upright
from fbr_plugin.errors import UserError
from fbr_plugin.processes import start_pool

T = TypeVar("T")

MODES_OF_MASKS = ("P", "L", "1")
THUMB = 16  # side of the reduced photos by which similar ones are found
_ORIENTATION = 0x0112  # EXIF's tag
_FEW = 400  # pairs that are read sooner than processes are started
_MOST_COLOURS = 256


class Photo(NamedTuple):
    """What a photo's file is like.

    Attributes:
        path: the file.
        format: by its content, such as JPEG.
        mode: of Pillow, such as RGB.
        orientation: by its EXIF data; 1 is upright.
        size: height and width in pixels, upright.
        nbytes: length of the file.
        transparent: whether a pixel is transparent.
        thumb: [THUMB, THUMB, 3], the photo reduced.
    """

    path: Path
    format: str
    mode: str
    orientation: int
    size: tuple[int, int]
    nbytes: int
    transparent: bool
    thumb: NDArray[np.uint8]


class Mask(NamedTuple):
    """What a mask's file is like.

    Attributes:
        path: the file.
        format: by its content, such as PNG.
        mode: of Pillow; P, L and 1 hold a number per pixel.
        size: height and width in pixels.
        counts: pixels of each number; empty for other modes.
        colours: of the palette by number, or of the image in no order; empty if there are more than 256.
    """

    path: Path
    format: str
    mode: str
    size: tuple[int, int]
    counts: dict[int, int]
    colours: dict[int, tuple[int, int, int]]

    def classes(self) -> set[int]:
        """The numbers in it that are neither background nor ignored."""
        return {*self.counts} - {0, IGNORE}


class Inspected(NamedTuple):
    """The files of an image, or why they cannot be read; None where there is no file."""

    photo: Photo | str | None
    mask: Mask | str | None


Job = tuple[Path | None, Path | None]


def inspect_all(photos: Mapping[str, Path], masks: Mapping[str, Path], workers: int) -> dict[str, Inspected]:
    """Read all photos and masks.

    Args:
        photos: files by id.
        masks: files by id.
        workers: processes, of which none is started for a few images.
    """
    ids = list(dict.fromkeys([*photos, *masks]))
    jobs: list[Job] = [(photos.get(name), masks.get(name)) for name in ids]
    found = tqdm(_run(jobs, workers), "read", total=len(jobs), disable=None)
    return dict(zip(ids, found, strict=True))


def _run(jobs: list[Job], workers: int) -> Iterator[Inspected]:
    if workers < 2 or len(jobs) <= _FEW:
        yield from map(inspect_files, jobs)
        return
    pool = start_pool(workers, _leave_interrupts)
    try:
        yield from pool.map(inspect_files, jobs, chunksize=32)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the owner of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def inspect_files(job: Job) -> Inspected:
    """Read the photo and the mask of an image."""
    photo, mask = job
    return Inspected(_tried(_inspect_photo, photo), _tried(_inspect_mask, mask))


def _tried(inspect: Callable[[Path], T], path: Path | None) -> T | str | None:
    if path is None:
        return None
    try:
        return inspect(path)
    except UserError as error:
        return str(error)


def _inspect_photo(path: Path) -> Photo:
    image = open_image(path)
    turned = upright(path, image)
    small = turned.convert("RGB").resize((THUMB, THUMB), Image.Resampling.BOX)
    return Photo(
        path,
        image.format or "",
        image.mode,
        image.getexif().get(_ORIENTATION, 1),
        (turned.height, turned.width),
        path.stat().st_size,
        _is_transparent(image),
        np.asarray(small),
    )


def _is_transparent(image: Image.Image) -> bool:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    alpha: NDArray[np.uint8] = np.asarray(image.convert("RGBA").getchannel("A"))
    return bool((alpha < 255).any())


def _inspect_mask(path: Path) -> Mask:
    image = open_image(path)
    size, kind = (image.height, image.width), image.format or ""
    if image.mode not in MODES_OF_MASKS:
        found: list[Any] = image.convert("RGB").getcolors(_MOST_COLOURS) or []
        return Mask(path, kind, image.mode, size, {}, {n: colour for n, (_, colour) in enumerate(found)})
    numbers = image if image.mode != "1" else Image.fromarray(np.asarray(image, np.uint8))
    counts = {number: count for number, count in enumerate(numbers.histogram()) if count}
    palette = image.getpalette() or []
    colours = {n: _colour(palette[3 * n : 3 * n + 3]) for n in counts if 3 * n < len(palette)}
    return Mask(path, kind, image.mode, size, counts, colours)


def _colour(levels: Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = levels
    return red, green, blue
