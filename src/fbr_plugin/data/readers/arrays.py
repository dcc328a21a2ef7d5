"""Arrays and tensors from untrusted files: plain numbers that fill their shapes, nothing else."""

import io
import math
import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.errors import InputError

LARGEST = 2**30  # numbers in an array, its empty axes aside
_MOST_AXES = 32
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_OBJECTS = {"O", "O4", "O8"}


class NumberType:
    """Stand-in for a numpy dtype. A file may choose the type from a list and set its byte order."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or code not in _NUMBERS | _OBJECTS:
            raise InputError(f"it asks for the number type {reprlib.repr(code)}")
        self.code, self.order = code, "="

    @property
    def is_object(self) -> bool:
        return self.code in _OBJECTS

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype; raises for objects."""
        if self.is_object:
            raise InputError("it asks for an array of objects, which is refused")
        return np.dtype(self.order + self.code)

    def set_state(self, state: Any) -> None:
        """Set the byte order from the state that numpy pickles."""
        version, order, *rest, _ = state  # the last are flags, which follow from the type
        if (version, rest) != (3, [None, None, None, -1, -1]) or order not in ("<", ">", "|", "="):
            raise InputError(f"it sets the number type's state {reprlib.repr(state)}, which is refused")
        self.order = order


def as_bytes(data: Any) -> bytes | memoryview:
    """Bytes, which Python 2 stored as text."""
    if isinstance(data, bytes | memoryview):
        return data
    if not isinstance(data, str | bytearray):
        raise InputError(f"it takes a {type(data).__name__} for bytes")
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def are_counts(values: Any) -> bool:
    """Whether a value from a file is a tuple of non-negative integers, as shapes are."""
    return type(values) is tuple and all(type(n) is int and 0 <= n <= LARGEST for n in values)


def check_shape(shape: Any, itemsize: int, size: int) -> None:
    """Refuse what is not a shape, and a shape that does not fill exactly `size` bytes."""
    if not are_counts(shape) or len(shape) > _MOST_AXES or math.prod(max(n, 1) for n in shape) > LARGEST:
        raise InputError(f"it asks for an array of the shape {reprlib.repr(shape)}")
    if (expected := math.prod(shape) * itemsize) != size:
        raise InputError(f"its array of the shape {shape} has {size} bytes instead of {expected}")


def array(data: Any, number: NumberType, shape: Any, order: str = "C", axes: Any = None) -> NDArray[Any]:
    """An array of the bytes in `data`; of order `K`, its axes are permuted afterwards."""
    if order not in ("C", "F", "K") or (order == "K" and not are_counts(axes)):
        raise InputError(f"it asks for an array of the order {reprlib.repr(order)}")
    dtype, data = number.dtype, as_bytes(data)
    check_shape(shape, dtype.itemsize, len(data))
    made: NDArray[Any] = np.ndarray(shape, dtype, bytearray(data), order="F" if order == "F" else "C")
    return made.transpose(axes) if order == "K" else made


def fill(empty: NDArray[Any], state: Any) -> None:
    """Fill an empty array in place from the state that numpy pickles."""
    version, shape, number, fortran, data = state
    if version != 1 or not isinstance(number, NumberType):
        raise InputError("it sets an array's state of an unknown layout")
    dtype, data = number.dtype, as_bytes(data)
    check_shape(shape, dtype.itemsize, len(data))
    checked: Any = (1, shape, dtype, bool(fortran), data)
    empty.__setstate__(checked)


def scalar(number: NumberType, data: Any) -> Any:
    """A numpy scalar."""
    return array(data, number, ())[()]


def tensor(storage: Any, offset: int, size: Any, stride: Any, *_: object) -> NDArray[Any]:
    """A tensor as an array that shares the storage's memory; its gradient and its hooks are dropped."""
    if not isinstance(storage, np.ndarray):
        raise InputError(f"it takes a {type(storage).__name__} for a tensor's storage")
    fits = all(map(are_counts, [size, stride, (offset,)])) and len(size) == len(stride)
    if fits:
        check_shape(size, 1, math.prod(size))
        steps = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        fits = max(math.prod(size), offset + steps) <= storage.size
    if not fits:
        raise InputError(
            f"its tensor of offset {reprlib.repr(offset)}, size {reprlib.repr(size)} and stride "
            f"{reprlib.repr(stride)} exceeds a storage of {storage.size} numbers"
        )
    item = storage.itemsize
    return np.ndarray(size, storage.dtype, storage, offset * item, [step * item for step in stride])


def wraps_content(state: Any) -> bool:
    """Whether an array's state is that of one object, as `np.save` wraps a container."""
    _, shape, number, _, data = state
    is_object = isinstance(number, NumberType) and number.is_object
    return is_object and shape == () and type(data) is list and len(data) == 1


def npy_header(file: io.BytesIO) -> tuple[tuple[int, ...], str, np.dtype[Any]]:
    """The shape, the order and the dtype that a `.npy` file declares; the file is left at its data."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, "F" if fortran else "C", dtype


def read_npy(data: bytes) -> NDArray[Any]:
    """The array of numbers in a `.npy` file."""
    file = io.BytesIO(data)
    shape, order, dtype = npy_header(file)
    number = NumberType(dtype.str[1:])
    number.order = dtype.byteorder
    return array(memoryview(data)[file.tell() :], number, shape, order)
