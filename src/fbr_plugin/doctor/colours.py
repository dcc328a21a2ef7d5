"""Masks that hold VOC's colours in place of class numbers, and the numbers that the colours stand for."""

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fbr_plugin.data.readers.images import IGNORE, open_image, voc_palette
from fbr_plugin.doctor.inspection import MODES_OF_MASKS, Mask

Numbers = dict[tuple[int, int, int], int]


def numbers_of_colours(num_classes: int) -> Numbers:
    """The class number of each of VOC's colours: 0, 1..C and 255."""
    palette = voc_palette()
    return {tuple(palette[number].tolist()): number for number in (*range(num_classes + 1), IGNORE)}


def numbers_of_greys(num_classes: int) -> dict[int, int]:
    """The class number of each of VOC's colours after a conversion to grey, without those equally grey."""
    image = Image.fromarray(voc_palette()[None], "RGB").convert("L")
    greys = np.asarray(image)[0].tolist()
    numbers = (*range(num_classes + 1), IGNORE)
    uses = Counter(greys[number] for number in numbers)
    return {greys[number]: number for number in numbers if uses[greys[number]] == 1}


def is_recoverable(mask: Mask, num_classes: int) -> bool:
    """Whether a mask holds colours, and its class numbers can be recovered from them without doubt."""
    if mask.mode in MODES_OF_MASKS:
        greys = mask.mode == "L" and {*mask.counts} <= {*numbers_of_greys(num_classes)}
        return greys and any(num_classes < number < IGNORE for number in mask.counts)
    return bool(mask.colours) and {*mask.colours.values()} <= {*numbers_of_colours(num_classes)}


def reordered(masks: Mapping[str, Mask], num_classes: int) -> list[str]:
    """The masks whose palettes have VOC's colours in an order of their own, as after a reduction of colours.

    A palette that is the same in all masks is a matter of taste, and not meant.
    """
    known = numbers_of_colours(num_classes)
    palettes = {name: mask for name, mask in masks.items() if mask.mode == "P" and mask.colours}
    palettes = {name: mask for name, mask in palettes.items() if {*mask.colours.values()} <= {*known}}
    numbers = defaultdict(set)
    for mask in palettes.values():
        for number, colour in mask.colours.items():
            numbers[colour].add(number)
    if all(len(each) == 1 for each in numbers.values()):
        return []
    return [name for name, mask in palettes.items() if any(known[c] != n for n, c in mask.colours.items())]


def to_numbers(mask: Mask, num_classes: int) -> NDArray[np.uint8]:
    """The class numbers [H, W] of a mask that can be recovered."""
    image = open_image(mask.path)
    if mask.mode == "L":
        table = np.zeros(IGNORE + 1, np.uint8)
        for grey, number in numbers_of_greys(num_classes).items():
            table[grey] = number
        greys: NDArray[np.uint8] = np.asarray(image)
        converted: NDArray[np.uint8] = table[greys]
        return converted
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    result = np.zeros(pixels.shape[:2], np.uint8)
    for colour, number in numbers_of_colours(num_classes).items():
        result[(pixels == colour).all(-1)] = number
    return result
