"""Reader of MATLAB's files, versions 5 to 7.2, in which Stanford's data sets keep their lists.

A file is a header of 128 bytes, whose last two tell the byte order, and elements. An element is its type
and its length in bytes, uint32 each, and its content, padded to a multiple of 8. One of up to 4 bytes may
have its length in the upper half of its type, and its content in place of the length. A compressed
element holds another one. An array is an element of: its flags, of which the lowest byte is its class;
its dimensions; its name; and, by class, cells, fields, numbers or characters. scipy's reader is not used,
as some damaged files crash it.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fbr_plugin.errors import InputError, MissingFileError, short

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_ARRAY, _COMPRESSED = 14, 15  # types of elements
_CELLS, _STRUCTS, _CHARACTERS, _NUMERIC = 1, 2, 4, range(6, 16)  # classes of arrays
_HEADER, _TAG = 128, 8  # bytes
_MOST = 2**26  # bytes that a compressed element may have; a list of 20 000 images has 10 million
_DEEPEST = 8  # arrays within arrays

Element = tuple[int, bytes]


def read_matlab(path: Path, *names: str) -> list[list[Any]]:
    """Variables of a MATLAB file, each as a list: of numbers, of texts, or of a dictionary for each struct.

    Args:
        path: a file in the format of MATLAB 5 to 7.2.
        names: the variables, in the order in which they are returned.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another format, or has no such variable.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: download it with the images, and unpack it there")
    try:
        found = _variables(path.read_bytes(), names)
    except (ValueError, StopIteration, struct.error, zlib.error) as error:
        raise InputError(
            f"{path} is not a file of MATLAB 5 to 7.2 ({short(error)}): copy it again"
        ) from error
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{path} has no variable {missing[0]}: is it another list's file?")
    return [found[name] for name in names]


def _variables(data: bytes, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Those variables of a file that are asked for, by name."""
    order = {b"IM": "<", b"MI": ">"}.get(data[_HEADER - 2 : _HEADER])
    if order is None:
        raise InputError("it has no such header")
    found = {}
    for kind, content in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            content = zlib.decompressobj().decompress(content, _MOST)
            kind, content = next(_elements(content, order), (0, b""))
        if kind == _ARRAY:
            name, value = _array(content, order, _DEEPEST, names)
            if name in names:
                found[name] = value
    return found


def _elements(data: bytes, order: str) -> Iterator[Element]:
    """The elements that follow one another: the type and the content of each."""
    position = 0
    while position + _TAG <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, position)
        start, end = position + _TAG, position + _TAG + length
        padded = length if kind == _COMPRESSED else length + -length % 8
        if kind >> 16:  # a short element
            kind, length = kind & 0xFFFF, kind >> 16
            start, end, padded = position + 4, position + 4 + length, 0
        if end > len(data):
            raise InputError(f"it ends {end - len(data)} bytes too early")
        yield kind, data[start:end]
        position += _TAG + padded


def _array(content: bytes, order: str, depth: int, names: tuple[str, ...]) -> tuple[str, list[Any]]:
    """The name of an array, and its values in a list.

    Args:
        content: of its element.
        order: of bytes.
        depth: of arrays that it may hold within one another.
        names: of the arrays that are asked for, () for all; the list of others is empty.
    """
    if not content:
        return "", []
    if not depth:
        raise InputError("it has arrays within arrays without end")
    parts = _elements(content, order)
    (_, flags), (_, sides), (_, title) = next(parts), next(parts), next(parts)
    name, kind = title.decode("latin-1"), np.frombuffer(flags, f"{order}u4", 1)[0] & 0xFF
    dimensions = [max(side, 0) for side in np.frombuffer(sides, f"{order}i4").tolist()]
    number = math.prod(dimensions)
    if names and name not in names:
        return name, []
    if kind in _NUMERIC:
        return name, _numbers(next(parts), order, number)
    if kind == _CHARACTERS:
        return name, _texts(next(parts), order, dimensions)
    if kind not in (_CELLS, _STRUCTS):
        raise InputError(f"its variable {short(name)} is of the class {kind}, which is not read")
    fields = [""]
    if kind == _STRUCTS:
        (_, size), (_, text) = next(parts), next(parts)
        width = int(np.frombuffer(size, f"{order}i4", 1)[0])
        if width < 1:
            raise InputError(f"its names of fields have {width} characters")
        ends = range(0, len(text), width)
        fields = [text[end : end + width].partition(b"\0")[0].decode("latin-1") for end in ends]
    if number * len(fields) * _TAG > len(content):
        raise InputError(f"its {len(content)} bytes cannot hold {number} times {len(fields)} arrays")
    values = [_single(_array(each, order, depth - 1, ())[1]) for _, each in parts]
    if len(values) != number * len(fields):
        raise InputError(f"it has {len(values)} arrays instead of {number} times {len(fields)}")
    if kind == _CELLS:
        return name, values
    rows = (values[start : start + len(fields)] for start in range(0, len(values), len(fields)))
    return name, [dict(zip(fields, row, strict=True)) for row in rows]


def _numbers(element: Element, order: str, number: int) -> list[Any]:
    """The numbers of an array, those without a fraction as integers."""
    kind, content = element
    if kind not in _NUMBERS:
        raise InputError(f"its numbers are of the type {kind}")
    values = np.frombuffer(content, order + _NUMBERS[kind])
    if len(values) != number:
        raise InputError(f"it has {len(values)} numbers instead of {number}")
    return [int(each) if isinstance(each, float) and each.is_integer() else each for each in values.tolist()]


def _texts(element: Element, order: str, dimensions: list[int]) -> list[str]:
    """The rows of an array of characters, whose columns follow one another."""
    kind, content = element
    if kind not in _TEXTS:
        raise InputError(f"its characters are of the type {kind}")
    coding = _TEXTS[kind] + ({"<": "-le", ">": "-be"}[order] if kind in (4, 17, 18) else "")
    text, rows = content.decode(coding), dimensions[0] if dimensions else 0
    if len(text) != math.prod(dimensions):
        raise InputError(f"it has {len(text)} characters instead of {math.prod(dimensions)}")
    return [text[row::rows].rstrip() for row in range(rows)] if text else [""]


def _single(values: list[Any]) -> Any:
    """The only value of an array in a cell or field; the list where there are more."""
    return values[0] if len(values) == 1 else values
