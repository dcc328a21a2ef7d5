"""Reading pickles of other tools without running what a stranger may have put into them."""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK\x03\x04"


def load_restricted(path: str | Path) -> object:
    """The content of a `.npy`, `.npz` or pickle file of plain containers, numbers, text and arrays.

    Tensors, as the seeds of IRN and AMN hold, come back as numpy arrays, and a `.npz` as a dictionary of its
    arrays, which may hold no objects. Nothing else can be made: a file that asks for any other class or
    function is refused before that runs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file asks for something else, or is no pickle; names the file and the reason.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: check the path")
    try:
        with path.open("rb") as file:
            content = _load(file)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read: {error}. Only containers, numbers, text and arrays are accepted"
        ) from error
    return content.item() if isinstance(content, np.ndarray) and content.dtype.hasobject else content


def _load(file: IO[bytes]) -> object:
    start = file.read(len(_NPY_MAGIC))
    file.seek(0)
    if start.startswith(_ZIP_MAGIC):
        with np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    if start != _NPY_MAGIC:
        return _Unpickler(file).load()
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    if read_header(file)[2].hasobject:
        return _Unpickler(file).load()
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _encode(text: str, encoding: str) -> bytes:
    """What protocol 2 stores bytes as."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _storage(data: bytes) -> Any:
    """A tensor's numbers, which torch reads by a restricted unpickler of its own."""
    return torch.load(io.BytesIO(data), weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> NDArray:
    """A tensor as an array; gradients and hooks are left behind."""
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride).numpy()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = np.empty(1).__reduce__()[0]
    _ALLOWED[f"{_core}.multiarray", "scalar"] = np.float32().__reduce__()[0]
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = np.empty(1).__reduce_ex__(5)[0]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote text

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return _ALLOWED[module, name]
