"""Reading pickles of other tools without running what a stranger may have put into them."""

import io
import math
import pickle
import reprlib
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.errors import InputError, MissingFileError

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"
_TORCH_MAGIC = (0x1950A86A20F9469CFC6C, 1001)  # the number and the version before a pickled storage
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_OBJECTS = {"O", "O4", "O8"}
_STORAGES = {
    "Bool": "b1",
    "Byte": "u1",
    "Char": "i1",
    "Short": "i2",
    "Int": "i4",
    "Long": "i8",
    "Half": "f2",
    "Float": "f4",
    "Double": "f8",
}
_MOST_AXES = 32
_LARGEST = 2**30  # numbers in an array, its empty axes aside, and bytes in an archive
_MOST_VALUES = 2**24  # in containers, counted anew wherever a container is used again


def load_restricted(path: str | Path) -> object:
    """The content of a `.npy`, `.npz` or pickle file of plain containers, numbers, text and arrays.

    Tensors, as the seeds of IRN and AMN hold, come back as numpy arrays, and a `.npz` as a dictionary of its
    arrays. Containers are lists, tuples and dictionaries by number or text; arrays hold numbers that fill
    their shape, never objects. A file that asks for anything else is refused before that is made.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file asks for something else, or is no pickle; names the file and the reason.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: check the path")
    try:
        return _load(path.read_bytes())
    except Exception as error:
        raise InputError(
            f"{path} cannot be read: {str(error) or type(error).__name__}. "
            "Only containers, numbers, text and arrays are accepted"
        ) from error


def _load(data: bytes) -> object:
    if data.startswith(_ZIP_MAGIC):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                raise pickle.UnpicklingError(f"it unpacks to more than {_LARGEST} bytes")
            names = archive.namelist()
            return {name.removesuffix(".npy"): _load_npy(archive.read(name), plain=True) for name in names}
    return _load_npy(data) if data.startswith(_NPY_MAGIC) else _unpickle(io.BytesIO(data))


def _load_npy(data: bytes, plain: bool = False) -> object:
    """A numpy file's array, or the content that an array of objects wraps, which a plain one may not."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject and not plain:
        return _unpickle(file)
    number = _Dtype(dtype.str[1:]).number.newbyteorder(dtype.byteorder)
    return _array(file.read(), number, shape, "F" if fortran else "C")


def _unpickle(file: io.BytesIO) -> object:
    content = _Unpickler(file).load()
    count, left = 1, [content]
    while left and count <= _MOST_VALUES:
        item = left.pop()
        if type(item) in (dict, list, tuple):
            count += len(item)
            left += item.values() if isinstance(item, dict) else item
        elif item is not None and not isinstance(item, _PLAIN):
            raise pickle.UnpicklingError(f"it holds a {type(item).__name__}, which is no value")
    if left:
        raise pickle.UnpicklingError(f"its containers hold more than {_MOST_VALUES} values or themselves")
    return content


_KEYS = (str, bytes, int, float, np.generic)
_PLAIN = (*_KEYS, bytearray, np.ndarray)


class _Dtype:
    """Stands for numpy's type of a number. Its byte order is all that a file may set."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or code not in _NUMBERS | _OBJECTS:
            raise pickle.UnpicklingError(f"it asks for the number type {reprlib.repr(code)}")
        self.is_object = code in _OBJECTS
        self._number: np.dtype[Any] = np.dtype("u1" if self.is_object else code)

    @property
    def number(self) -> np.dtype[Any]:
        if self.is_object:
            raise pickle.UnpicklingError("it asks for an array of objects, which is refused")
        return self._number

    def build(self, state: Any) -> None:
        version, order, *rest, _ = state  # the last are flags, which follow from the type
        if (version, rest) != (3, [None, None, None, -1, -1]) or order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(
                f"it sets the number type's state {reprlib.repr(state)}, which is refused"
            )
        self._number = self._number.newbyteorder(order)


class _Storage(NamedTuple):
    """Stands for the numbers of tensors."""

    data: bytes
    dtype: np.dtype[Any]


def _are_counts(values: Any) -> bool:
    """Whether a file gives a tuple of integers from 0, as shapes are."""
    return type(values) is tuple and all(type(n) is int and 0 <= n <= _LARGEST for n in values)


def _check_shape(shape: Any, itemsize: int, size: int) -> None:
    """Refuse a shape that is none or does not fill just so many bytes."""
    if not _are_counts(shape) or len(shape) > _MOST_AXES or math.prod(max(n, 1) for n in shape) > _LARGEST:
        raise pickle.UnpicklingError(f"it asks for an array of the shape {reprlib.repr(shape)}")
    if math.prod(shape) * itemsize != size:
        raise pickle.UnpicklingError(
            f"its array of the shape {shape} has {size} bytes instead of {math.prod(shape) * itemsize}"
        )


def _bytes(data: Any) -> bytes:
    """Bytes, which Python 2 stored as text."""
    if not isinstance(data, str | bytes | bytearray):
        raise pickle.UnpicklingError(f"it takes a {type(data).__name__} for bytes")
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _array(data: bytes, number: np.dtype[Any], shape: Any, order: Any) -> NDArray[Any]:
    _check_shape(shape, number.itemsize, len(data))
    return np.ndarray(shape, number, bytearray(data), order=order)


def _encode(text: str, encoding: str) -> bytes:
    """What protocol 2 stores bytes as."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {reprlib.repr(encoding)}")
    return _bytes(text)


def _no_bytes() -> bytes:
    """What protocol 2 stores no bytes as."""
    return b""


def _ndarray(*_: object) -> None:
    """Stands for numpy's class, which files name for `_reconstruct` and never call."""
    raise pickle.UnpicklingError("it calls numpy.ndarray, which is refused")


def _reconstruct(kind: object, *_: object) -> NDArray[np.uint8]:
    """An empty array, which the unpickler fills."""
    if kind is not _ndarray:
        raise pickle.UnpicklingError(f"it asks for an array of the class {reprlib.repr(kind)}")
    return np.empty(0, np.uint8)


def _scalar(dtype: _Dtype, data: Any) -> Any:
    return _array(_bytes(data), dtype.number, (), "C")[()]


def _frombuffer(data: Any, dtype: _Dtype, shape: Any, order: str, axes: Any = None) -> NDArray[Any]:
    """What protocol 5 stores arrays as; `K` is an array in C's order whose axes are then exchanged."""
    if order not in ("C", "F", "K") or (order == "K" and not _are_counts(axes)):
        raise pickle.UnpicklingError(f"it asks for an array of the order {reprlib.repr(order)}")
    array = _array(_bytes(data), dtype.number, shape, "F" if order == "F" else "C")
    return array.transpose(axes) if order == "K" else array


def _storage(data: Any) -> _Storage:
    """A tensor's numbers, as torch wrote them before its files were archives."""
    file = io.BytesIO(_bytes(data))
    *magic, _, name, _ = (_StorageUnpickler(file).load() for _ in range(5))
    if tuple(magic) != _TORCH_MAGIC or type(name) is not tuple or name[0] != "storage" or name[5] is not None:
        raise pickle.UnpicklingError("it holds a tensor's storage of an unknown layout")
    number = _Dtype(name[1]).number.newbyteorder("<")
    numbers, content = int.from_bytes(file.read(8), "little"), file.read()
    _check_shape((numbers,), number.itemsize, len(content))
    return _Storage(content, number)


def _tensor(storage: _Storage, offset: int, size: Any, stride: Any, *_: object) -> NDArray[Any]:
    """A tensor as an array; gradients and hooks are left behind."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError(f"it takes a {type(storage).__name__} for a tensor's storage")
    data, number = storage
    numbers = len(data) // number.itemsize
    fits = all(map(_are_counts, [size, stride, (offset,)])) and len(size) == len(stride)
    if fits:
        _check_shape(size, number.itemsize, math.prod(size) * number.itemsize)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        fits = max(math.prod(size), offset if 0 in size else last + 1) <= numbers
    if not fits:
        raise pickle.UnpicklingError(
            f"its tensor of offset {reprlib.repr(offset)}, size {reprlib.repr(size)} and stride "
            f"{reprlib.repr(stride)} exceeds a storage of {numbers} numbers"
        )
    steps = [step * number.itemsize for step in stride]
    return np.ndarray(size, number, data, offset * number.itemsize, steps).copy()


def _put(target: Any, pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Fill a dictionary by keys that are plain: to hash a deeply nested one could exhaust the stack."""
    if type(target) is not dict:
        raise pickle.UnpicklingError(f"it takes a {type(target).__name__} for a dictionary")
    for key, value in pairs:
        if key is not None and not isinstance(key, _KEYS):
            raise pickle.UnpicklingError(f"it has a {type(key).__name__} as a dictionary's key")
        target[key] = value
    return target


def _ordered(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    return _put({}, pairs)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _ordered,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Operations(dict[int, Callable[..., None]]):
    """The operations of a pickle, where a missing one is refused."""

    def __missing__(self, code: int) -> Callable[..., None]:
        raise pickle.UnpicklingError(f"it asks for the pickle operation {bytes([code])!r}, which is refused")


class _Unpickler(pickle._Unpickler):
    """Makes only what `_ALLOWED` lists.

    Python's own unpickler, unlike C's, lets BUILD and the dictionaries be checked, and its memory follows the
    file's length: C's makes room for as many objects as a number in the file says.
    """

    dispatch: ClassVar[_Operations] = _Operations(pickle._Unpickler.dispatch)
    stack: list[Any]
    metastack: list[list[Any]]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote text

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return _ALLOWED[module, name]

    def _build(self) -> None:
        """Set the state of a number type or of an empty array; of nothing else."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Dtype):
            return target.build(state)
        if not isinstance(target, np.ndarray) or target.size:
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}, which is refused")
        version, shape, dtype, fortran, data = state
        if version != 1 or not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("it sets an array's state of an unknown layout")
        is_whole = len(self.stack) == 1 and not self.metastack
        if dtype.is_object and is_whole and type(data) is list and len(data) == 1:
            _check_shape(shape, 1, 1)
            (self.stack[0],) = data  # np.save wraps a container into an array, which is left out
            return None
        number, data = dtype.number, _bytes(data)
        _check_shape(shape, number.itemsize, len(data))
        checked: Any = (1, shape, number, bool(fortran), data)
        target.__setstate__(checked)
        return None

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [(key, value)])

    def _set_items(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(_put({}, zip(items[::2], items[1::2], strict=True)))

    def _bytearray(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict
    dispatch[pickle.BYTEARRAY8[0]] = _bytearray
    for _code in (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        del dispatch[_code[0]]


class _StorageUnpickler(_Unpickler):
    """Reads the parts before a storage's numbers, which name its type and its length."""

    def find_class(self, module: str, name: str) -> Any:
        if module != "torch" or name.removesuffix("Storage") not in _STORAGES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return _STORAGES[name.removesuffix("Storage")]

    def persistent_load(self, pid: Any) -> Any:
        return pid
