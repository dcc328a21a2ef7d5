"""Reader of MXNet's files of arrays (`.params`), without MXNet.

A file is, all little-endian: uint64 0x112; uint64 0; uint64 number of arrays; the arrays; uint64 number of
names; the names, each uint64 length and UTF-8. A dense array is: uint32 0xF993FAC9, int32 storage type (0),
uint32 dimensions, their sizes as int64 (from 0xF993FAC8, without the storage type; before that the dimensions
come first, their sizes as uint32); int32 device type and number; int32 element type; the elements.
"""

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fbr_plugin.errors import InputError, short

LIST_MAGIC = 0x112
ARRAY_V1, ARRAY_V2 = 0xF993FAC8, 0xF993FAC9
TYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
MOST_DIMENSIONS = 32


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The named arrays of a `.params` file.

    Raises:
        ValueError: the file is damaged, is not such a file, or holds sparse arrays.
    """
    stream = _Stream(path.read_bytes())
    try:
        magic, _, count = stream.numbers("QQQ")
        if magic != LIST_MAGIC:
            raise InputError(f"it begins with {magic:#x}, not {LIST_MAGIC:#x}")
        arrays = [_read_array(stream) for _ in range(count)]
        names = [stream.take(stream.number("Q")).decode() for _ in range(stream.number("Q"))]
        return dict(zip(names, arrays, strict=True))
    except (ValueError, struct.error) as error:
        raise InputError(f"{path} cannot be read as MXNet's arrays: {short(error)}") from error


class _Stream:
    """A stream of bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def take(self, length: int) -> bytes:
        """The next bytes."""
        if length > len(self.content) - self.position:
            raise InputError(f"it ends {length - len(self.content) + self.position} bytes too early")
        self.position += length
        return self.content[self.position - length : self.position]

    def numbers(self, format: str) -> tuple[int, ...]:
        """The next little-endian numbers, of the struct module's types."""
        return struct.unpack(f"<{format}", self.take(struct.calcsize(f"<{format}")))

    def number(self, format: str) -> int:
        """The next number."""
        return self.numbers(format)[0]


def _read_array(stream: _Stream) -> Tensor:
    """The next array; an array without dimensions ends after its shape."""
    dimensions, size = stream.number("I"), "I"
    if dimensions in (ARRAY_V1, ARRAY_V2):
        if dimensions == ARRAY_V2 and (storage := stream.number("i")) != 0:
            raise InputError(f"an array has the storage type {storage}, only dense ones (0) can be read")
        dimensions, size = stream.number("I"), "q"
    if dimensions > MOST_DIMENSIONS:
        raise InputError(f"an array has {dimensions} dimensions, more than {MOST_DIMENSIONS}")
    shape = stream.numbers(size * dimensions)
    if not shape:
        return torch.zeros(0)
    if min(shape) < 0:
        raise InputError(f"an array has the shape {list(shape)}")
    _, _, type_number = stream.numbers("iii")
    if not 0 <= type_number < len(TYPES):
        raise InputError(f"an array has the unknown element type {type_number}")
    type_ = np.dtype(TYPES[type_number])
    content = stream.take(type_.itemsize * math.prod(shape))
    return torch.from_numpy(np.frombuffer(content, type_).reshape(shape).copy())
