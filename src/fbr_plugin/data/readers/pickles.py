"""A reader of untrusted pickles: it makes data of known kinds and runs nothing that a file names."""

import io
import pickle
import reprlib
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.data.readers import arrays
from fbr_plugin.errors import InputError, MissingFileError, short

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_TORCH_MAGIC = (0x1950A86A20F9469CFC6C, 1001)  # the number and the version before a pickled storage
_MOST, _RATIO = 2**28, 16  # bytes that the arrays of a small file may have, and times the size of a large one
_LEAST = 4096  # bytes that a file counts for in addition, as small ones share names of types and empty arrays
_KEYS = (NoneType, str, bytes, int, float, np.generic)
_PLAIN = (*_KEYS, bytearray, np.ndarray)


def load_restricted(path: str | Path) -> object:
    """Load a `.npy`, `.npz` or pickle file of plain containers, numbers, text and arrays.

    Tensors, which the seeds of IRN and AMN hold, become numpy arrays, and a `.npz` a dictionary of arrays.
    Containers are lists, tuples and dictionaries with numbers or text as keys; arrays hold numbers that fill
    their shape, never objects. A file that asks for anything else is refused before that is created.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file asks for something else or is not a pickle; the message names the file and why.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist: check the path")
    try:
        return _load(path.read_bytes())
    except Exception as error:
        raise InputError(
            f"{path} cannot be read: {short(error) or type(error).__name__}. "
            "Only containers, numbers, text and arrays are accepted"
        ) from error


def _load(data: bytes) -> object:
    if data.startswith(_ZIP_MAGIC):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(member.compress_type not in _COMPRESSIONS for member in archive.infolist()):
                raise InputError("it is compressed by another method than numpy's")  # of unlimited ratio
            size, most = sum(member.file_size for member in archive.infolist()), _most_bytes(data)
            if size > most:
                raise InputError(f"its {len(data)} bytes unpack to {size}, more than {most}")
            names = archive.namelist()
            return {name.removesuffix(".npy"): arrays.read_npy(archive.read(name)) for name in names}
    file = io.BytesIO(data)
    if data.startswith(_NPY_MAGIC):
        *_, dtype = arrays.npy_header(file)
        if not dtype.hasobject:
            return arrays.read_npy(data)
    content = _Unpickler(file).load()
    _check_values(content, data)
    return content


def _most_bytes(data: bytes) -> int:
    """The bytes that all arrays of a file may have, which shrink or are used over and over in it."""
    return max(_MOST, _RATIO * len(data))


def _check_values(content: object, data: bytes) -> None:
    """Refuse what is not a value, and containers or arrays that are used over and over."""
    count, size, left = 1, 0, [content]
    while left:
        item = left.pop()
        if isinstance(item, dict | list | tuple):
            count += len(item)
            if count > len(data):
                raise InputError("its containers hold more values than the file has bytes, or themselves")
            left += item.values() if isinstance(item, dict) else item
        elif not isinstance(item, _PLAIN):
            raise InputError(f"it holds a {type(item).__name__}, which is not a value")
        elif isinstance(item, np.ndarray) and (size := size + item.nbytes) > _most_bytes(data):
            raise InputError(f"its arrays have together more than {_most_bytes(data)} bytes")


class _Dict(dict[Any, Any]):
    """A dictionary with plain keys: hashing a deeply nested tuple could exhaust the stack."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]] = ()) -> None:
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, _KEYS):
            raise InputError(f"it has a {type(key).__name__} as a dictionary's key")
        super().__setitem__(key, value)


def _encode(text: str, encoding: str) -> bytes | memoryview:
    if encoding not in ("latin1", "latin-1"):
        raise InputError(f"it encodes text as {reprlib.repr(encoding)}")
    return arrays.as_bytes(text)


def _storage(data: Any) -> NDArray[Any]:
    """The numbers of a tensor, as torch wrote them before its files were archives."""
    file = io.BytesIO(arrays.as_bytes(data))
    *magic, _, name, _ = (_StorageUnpickler(file).load() for _ in range(5))
    if tuple(magic) != _TORCH_MAGIC or type(name) is not tuple or name[0] != "storage" or name[5] is not None:
        raise InputError("it holds a tensor's storage of an unknown layout")
    number = arrays.NumberType(name[1])
    number.order = "<"
    count = int.from_bytes(file.read(8), "little")
    return arrays.array(file.read(), number, (count,))


# The names that a file may use, and their stand-ins. A text can be neither called nor changed.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): arrays.NumberType,
    ("_codecs", "encode"): _encode,  # protocol 2 stores bytes as text
    ("builtins", "bytes"): lambda: b"",  # and empty ones as a call
    ("__builtin__", "bytes"): lambda: b"",
    ("collections", "OrderedDict"): _Dict,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): arrays.tensor,
    ("torch", "BoolStorage"): "b1",
    ("torch", "ByteStorage"): "u1",
    ("torch", "CharStorage"): "i1",
    ("torch", "ShortStorage"): "i2",
    ("torch", "IntStorage"): "i4",
    ("torch", "LongStorage"): "i8",
    ("torch", "HalfStorage"): "f2",
    ("torch", "FloatStorage"): "f4",
    ("torch", "DoubleStorage"): "f8",
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = lambda *_: np.empty(0, np.uint8)  # filled by BUILD
    _ALLOWED[f"{_core}.multiarray", "scalar"] = arrays.scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = arrays.array


class _Unpickler(pickle._Unpickler):
    """An unpickler that makes only what `_ALLOWED` lists.

    Unlike the one in C, the unpickler in Python allows checks of BUILD and of dictionaries. Its memory is
    bounded by the file's length, whereas C's allocates as many objects as a number in the file says. Its
    calls may take `_RATIO` times as many values as the file has bytes, which can repeat one with few bytes.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    metastack: list[list[Any]]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote text
        self.left = _RATIO * (len(file.getbuffer()) + _LEAST)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InputError(f"it asks for {module}.{name}, which is refused")
        return _ALLOWED[module, name]

    def _spend(self, given: Any) -> None:
        """Count what a call takes; raise where a file repeats it over and over."""
        sized = (each for each in given if isinstance(each, str | bytes | bytearray | list | tuple))
        self.left -= sum(map(len, sized))
        if self.left < 0:
            raise InputError("it uses the same values over and over")

    def _reduce(self) -> None:
        given = self.stack.pop()
        self._spend(given)
        self.stack[-1] = self.stack[-1](*given)

    def _build(self) -> None:
        """Set the state of a number type or an empty array, and of nothing else."""
        state = self.stack.pop()
        self._spend(state)
        target = self.stack[-1]
        if isinstance(target, arrays.NumberType):
            target.set_state(state)
        elif not isinstance(target, np.ndarray) or target.size:
            raise InputError(f"it sets the state of a {type(target).__name__}, which is refused")
        elif len(self.stack) == 1 and not self.metastack and arrays.wraps_content(state):
            (self.stack[0],) = state[-1]  # np.save wraps a container into an array: unwrap it
        else:
            arrays.fill(target, state)

    def _empty_dict(self) -> None:
        self.append(_Dict())

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(_Dict(zip(items[::2], items[1::2], strict=True)))

    def _bytearray(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def _long(self) -> None:
        raise InputError("it holds an integer of more than 255 bytes")  # to hash or print one takes long

    def _refuse(self) -> None:
        raise InputError("it asks for a pickle operation that makes objects, which is refused")

    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.LONG4[0]] = _long
    dispatch[pickle.EMPTY_DICT[0]] = _empty_dict
    dispatch[pickle.DICT[0]] = _dict
    dispatch[pickle.BYTEARRAY8[0]] = _bytearray
    for _code in (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        dispatch[_code[0]] = _refuse


class _StorageUnpickler(_Unpickler):
    """An unpickler of the header of a tensor's storage, which names its type and length."""

    def persistent_load(self, pid: Any) -> Any:
        return pid
