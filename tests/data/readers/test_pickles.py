import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fbr_plugin.data import load_restricted


class Malice:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", ["npy", "pkl"])
def test_malice_is_refused_and_never_runs(tmp_path: Path, suffix: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"seed.{suffix}"
    if suffix == "npy":
        np.save(path, {"cam": Malice(trace)})
    else:
        path.write_bytes(pickle.dumps([1, Malice(trace)]))
    with pytest.raises(
        ValueError, match=rf"seed.{suffix} cannot be read: it asks for (posix|nt)\.system, .*refused"
    ):
        load_restricted(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "call", ["builtins\neval", "numpy\nload", "torch\nload", "torch\nTensor", "numpy\nndarray.tofile"]
)
def test_other_functions_are_refused(tmp_path: Path, call: str) -> None:
    path = tmp_path / "labels.pkl"
    path.write_bytes(f"c{call}\n(S'1'\ntR.".encode())
    with pytest.raises(ValueError, match=call.replace("\n", r"\.")):
        load_restricted(path)


def test_a_tensor_cannot_hide_malice(tmp_path: Path) -> None:
    trace, path, inner = tmp_path / "trace", tmp_path / "seed.pkl", tmp_path / "inner.pt"
    torch.save(Malice(trace), inner, _use_new_zipfile_serialization=False)
    call = b"ctorch.storage\n_load_from_bytes\n" + pickle.dumps((inner.read_bytes(),), 3)[2:-1] + b"R."
    path.write_bytes(b"\x80\x03" + call)
    with pytest.raises(ValueError, match=r"seed.pkl cannot be read: it asks for (posix|nt)\.system"):
        load_restricted(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_arrays_survive(tmp_path: Path, protocol: int) -> None:
    content = {
        2007000032: np.arange(6, dtype=np.float32).reshape(2, 3),
        "seed": {"keys": np.array([0, 4]), "scale": np.float64(0.5), "names": ("a", ["b", None, True])},
        "column": np.asfortranarray(np.eye(3, dtype=np.float16))[:, ::2],
    }
    path = tmp_path / "content.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    loaded = load_restricted(path)
    assert isinstance(loaded, dict)
    assert np.array_equal(loaded[2007000032], content[2007000032])
    assert np.array_equal(loaded["column"], content["column"])
    assert loaded["seed"]["names"] == content["seed"]["names"]


def test_names_of_numpy_1_are_known(tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(pickle.dumps({"a": np.ones(3)}, 2).replace(b"numpy._core", b"numpy.core"))
    assert b"numpy.core" in path.read_bytes()
    assert np.array_equal(load_restricted(path)["a"], np.ones(3))


def test_tensors_become_arrays(tmp_path: Path) -> None:
    cam = torch.arange(24.0).reshape(2, 3, 4)
    np.save(tmp_path / "seed.npy", {"keys": torch.tensor([1, 3]), "cam": cam[:, 1:], "half": cam.half()})
    seed = load_restricted(tmp_path / "seed.npy")
    assert np.array_equal(seed["keys"], [1, 3])
    assert np.array_equal(seed["cam"], cam[:, 1:].numpy())
    assert seed["half"].dtype == np.float16


def test_plain_arrays_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.eye(3))
    assert np.array_equal(load_restricted(tmp_path / "map.npy"), np.eye(3))


def test_no_pickle_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(ValueError, match=r"text.npy cannot be read: .*Only containers"):
        load_restricted(tmp_path / "text.npy")
    with pytest.raises(FileNotFoundError, match=r"none.npy does not exist"):
        load_restricted(tmp_path / "none.npy")


class Call:
    """Is pickled as a call of a function and a state that is set afterwards."""

    def __init__(self, function: object, *args: object, state: object = None) -> None:
        self.parts = (function, args, state) if state is not None else (function, args)

    def __reduce__(self) -> Any:
        return self.parts


RECONSTRUCT, FROM_BUFFER, SCALAR = (
    np.ones(1).__reduce__()[0],
    np.ones(1).__reduce_ex__(5)[0],
    np.ones(1)[0].__reduce__()[0],
)
FLOAT = np.dtype("f4")
EMPTY = (RECONSTRUCT, np.ndarray, (0,), b"b")


def dtype(code: str, *state: object) -> Call:
    return Call(np.dtype, code, False, True, state=state or None)


def filled(*state: object) -> Call:
    """An array with a state of its own."""
    return Call(*EMPTY, state=state)


def tensor(offset: object, size: object, stride: object, length: int = 6) -> Call:
    return Call(
        torch._utils._rebuild_tensor_v2,
        torch.arange(float(length)).__reduce_ex__(2)[1][0],
        offset,
        size,
        stride,
        False,
        OrderedDict(),
    )


def nested(depth: int) -> bytes:
    """A pickled dictionary by a tuple of tuples."""
    return b"}" + b")" + b"\x85" * depth + b"Ns."


LOAD_APART = """
import importlib.util, resource, sys, types
for name in ("fbr_plugin", "fbr_plugin.data", "fbr_plugin.data.readers"):  # without what they import
    spec = importlib.util.find_spec(name)
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = spec.submodule_search_locations
from fbr_plugin.data.readers.pickles import load_restricted
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2)
for path in sys.argv[1:]:
    print("Loads", path, flush=True)
    try:
        repr(load_restricted(path))
    except ValueError as error:
        print("Refused", error, flush=True)
"""
HIDDEN_OBJECTS = ("O8", 3, "|", None, None, None, -1, -1, 0)  # whose flags say that they are none
DEADLY = {
    "buffer": pickle.dumps({0: Call(np.ndarray, (1,), dtype(*HIDDEN_OBJECTS), b"A" * 8)}),
    "buffer of protocol 5": pickle.dumps({0: Call(FROM_BUFFER, b"A" * 8, dtype(*HIDDEN_OBJECTS), (1,), "C")}),
    "state": pickle.dumps({0: filled(1, (1,), dtype(*HIDDEN_OBJECTS), False, b"A" * 8)}),
    "scalar": pickle.dumps({0: Call(SCALAR, dtype(*HIDDEN_OBJECTS), b"A" * 8)}),
    "memo without end": b"\x80\x04Nr\xff\xff\xff\x7f",
    "key without end": nested(10**6),
    "bytes without end": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"ab.",
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_no_file_ends_the_process(tmp_path: Path) -> None:
    np.save(tmp_path / "wrapper.npy", np.array(None))
    header = (tmp_path / "wrapper.npy").read_bytes().partition(b"\n")
    paths = []
    for name, content in DEADLY.items():
        for suffix, start in (("pkl", b""), ("npy", b"".join(header[:2]))):
            paths.append(tmp_path / f"{name}.{suffix}")
            paths[-1].write_bytes(start + content)
    command = [sys.executable, "-c", LOAD_APART, *map(str, paths)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"ends by {ran.returncode}: {ran.stdout[-300:]} {ran.stderr[-300:]}"
    assert [path for path in paths if f"Refused {path} cannot be read: " not in ran.stdout] == []


HUGE = 2**31
REFUSALS: dict[str, tuple[object, str]] = {
    "objects": (np.array([{}, {}], object), "array of objects"),
    "objects inside": ({0: np.array([None])}, "array of objects"),
    "objects in a buffer": (Call(FROM_BUFFER, b"A" * 8, np.dtype("O"), (1,), "C"), "array of objects"),
    "objects in a scalar": (Call(SCALAR, np.dtype("O"), b"A" * 8), "array of objects"),
    "fields": (np.zeros(2, "f4,i4"), "number type 'V8'"),
    "void": (np.zeros(2, "V3"), "number type 'V3'"),
    "text": (np.array(["a"]), "number type 'U1'"),
    "dates": (np.zeros(1, "M8[s]"), "number type 'M8'"),
    "complex": (np.zeros(1, "c8"), "number type 'c8'"),
    "wide": (dtype("f16"), "number type 'f16'"),
    "a nested number type": (Call(np.dtype, [("a", "O")]), "number type"),
    "size of a type": (dtype("f4", 3, "<", None, None, None, 400, -1, 0), "type's state"),
    "alignment": (dtype("f4", 3, "<", None, None, None, -1, 1, 0), "type's state"),
    "subarray": (dtype("f4", 3, "<", (FLOAT, (2,)), None, None, -1, -1, 0), "type's state"),
    "names": (dtype("f4", 3, "<", None, ("a",), {"a": (FLOAT, 0)}, -1, -1, 0), "type's state"),
    "metadata": (dtype("f4", 4, "<", None, None, None, -1, -1, 0, {}), "type's state"),
    "order": (dtype("f4", 3, "O", None, None, None, -1, -1, 0), "type's state"),
    "a type itself": ([FLOAT], "it holds a NumberType, which is not a value"),
    "a function itself": ([RECONSTRUCT], "it holds a function"),
    "a state twice": (
        Call(FROM_BUFFER, b"1234", FLOAT, (1,), "C", state=(1, (1,), FLOAT, False, b"1234")),
        "sets the state of a ndarray",
    ),
    "a list's state": (Call(OrderedDict, state={"a": 1}), "sets the state of a _Dict"),
    "version": (filled(2, (1,), FLOAT, False, b"1234"), "state of an unknown layout"),
    "another dtype": (filled(1, (1,), "f4", False, b"1234"), "state of an unknown layout"),
    "too short": (filled(1, (2,), FLOAT, False, b"1234"), r"shape \(2,\) has 4 bytes instead of 8"),
    "too long": (filled(1, (1,), FLOAT, False, b"12345"), "5 bytes instead of 4"),
    "negative": (filled(1, (-1, -1), FLOAT, False, b"1234"), "array of the shape"),
    "boolean": (filled(1, (True,), FLOAT, False, b"1234"), "array of the shape"),
    "overflow": (filled(1, (2**62, 4), FLOAT, False, b""), "array of the shape"),
    "huge and empty": (filled(1, (0, HUGE), FLOAT, False, b""), "array of the shape"),
    "wide and empty": (filled(1, (0, 2**20, 2**20), FLOAT, False, b""), "array of the shape"),
    "many axes": (filled(1, (1,) * 40, FLOAT, False, b"1234"), "array of the shape"),
    "no tuple": (filled(1, 1, FLOAT, False, b"1234"), "array of the shape"),
    "no bytes": (filled(1, (1,), FLOAT, False, [1.0]), "takes a list for bytes"),
    "buffer too short": (Call(FROM_BUFFER, b"1234", FLOAT, (2,), "C"), "4 bytes instead of 8"),
    "buffer guessed": (Call(FROM_BUFFER, b"1234", FLOAT, (-1,), "C"), "array of the shape"),
    "buffer of another": (Call(FROM_BUFFER, np.ones(1), FLOAT, (2,), "C"), "takes a ndarray for bytes"),
    "buffer's order": (Call(FROM_BUFFER, b"1234", FLOAT, (1,), "X"), "of the order 'X'"),
    "buffer's axes": (Call(FROM_BUFFER, b"1234", FLOAT, (1,), "K", (4,)), "axis 4"),
    "no axes": (Call(FROM_BUFFER, b"1234", FLOAT, (1,), "K"), "of the order 'K'"),
    "scalar": (Call(SCALAR, FLOAT, b"123"), "3 bytes instead of 4"),
    "encoding": (Call(pickle.loads(b"c_codecs\nencode\n."), "a", "hex"), "encodes text as 'hex'"),
    "tensor beyond": (tensor(0, (7,), (1,)), "exceeds a storage of 6 numbers"),
    "tensor's offset": (tensor(1, (6,), (1,)), "offset 1, size .* exceeds"),
    "tensor's stride": (tensor(0, (2, 3), (4, 1)), "exceeds"),
    "tensor before": (tensor(-1, (2,), (1,)), "offset -1"),
    "tensor backwards": (tensor(5, (2,), (-1,)), "exceeds"),
    "tensor's negative size": (tensor(0, (-2,), (1,)), "exceeds"),
    "tensor repeated": (tensor(0, (HUGE // 2,), (0,)), "exceeds"),
    "tensor's ranks": (tensor(0, (2, 3), (1,)), "exceeds"),
    "tensor empty beyond": (tensor(7, (0,), (1,)), "exceeds"),
    "tensor's storage": (
        Call(torch._utils._rebuild_tensor_v2, (b"1234", 4), 0, (1,), (1,), False, {}),
        "takes a tuple for a tensor's storage",
    ),
    "bfloat16": (torch.ones(2, dtype=torch.bfloat16), "BFloat16Storage"),
    "a tuple as key": ({(1, 2): 3}, "has a tuple as a dictionary's key"),
    "a set": ({1, 2}, "pickle operation|builtin.*set"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused(tmp_path: Path, name: str, protocol: int) -> None:
    content, reason = REFUSALS[name]
    path = tmp_path / "seed.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match=rf"seed.pkl cannot be read: .*{reason}"):
        load_restricted(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x04cnumpy\nndarray\n(K\x01\x85tR.", "'str' object is not callable"),
        (b"\x80\x04cnumpy\ndtype\nX\x02\0\0\0f4\x85\x81.", "pickle operation"),
        (b"\x80\x04\x82\x01.", "pickle operation"),
        (b"\x80\x05\x97.", "pickle operation"),
        (b"Pname\n.", "persistent"),
        (b"(dK\x01K\x02", "EOFError"),
        (nested(3), "tuple as a dictionary's key"),
        (b"ccollections\nOrderedDict\n]](NNe\x85a\x85R.", "not enough values"),
        (b"K\x01K\x02K\x03s.", "'int' object does not support item assignment"),
        (b"ccollections\nOrderedDict\n}b.", "sets the state of a type"),
    ],
)
def test_what_no_pickler_writes_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "seed.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"seed.pkl cannot be read: .*{reason}"):
        load_restricted(path)


def test_containers_that_grow_by_reuse_are_refused(tmp_path: Path) -> None:
    content: list[object] = []
    for _ in range(40):
        content = [content, content, content]
    circle: list[object] = []
    circle.append(circle)
    for bad in (content, circle):
        (tmp_path / "seed.pkl").write_bytes(pickle.dumps(bad))
        with pytest.raises(
            ValueError, match=r"seed.pkl cannot be read: its containers hold more values than"
        ):
            load_restricted(tmp_path / "seed.pkl")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("(3, 2)", "(3, 3)"), "24 bytes instead of 36"),
        (("(3, 2)", "(3, 1)"), "24 bytes instead of 12"),
        (("(3, 2)", "(-3, -2)"), "array of the shape"),
        (("(3, 2), }           ", "(3, 2000000000000), }"), "array of the shape"),
        (("<f4", "|V4"), "number type 'V4'"),
        (("<f4", "|S4"), "number type 'S4'"),
        (("<f4", "<c8"), "number type 'c8'"),
        (("<f4", "|O "), "not a valid dtype"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_headers_that_lie(tmp_path: Path, change: tuple[str, str], reason: str, suffix: str) -> None:
    path = tmp_path / f"map.{suffix}"
    np.save(tmp_path / "map.npy", np.ones((3, 2), np.float32))
    old, new = (text.encode() for text in change)
    data = (tmp_path / "map.npy").read_bytes().replace(old, new)
    data = data.replace(b" " * (len(new) - len(old)) + b"\n", b"\n", 1) if len(new) > len(old) else data
    if suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", data)
    else:
        path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"map.{suffix} cannot be read: .*{reason}"):
        load_restricted(path)


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "seed.npz", scores=np.zeros(1000))
    assert list(load_restricted(tmp_path / "seed.npz")) == ["scores"]
    monkeypatch.setattr("fbr_plugin.data.readers.pickles._MOST", 1000)
    with pytest.raises(ValueError, match=r"seed.npz cannot be read: its \d+ bytes unpack to 8128, more than"):
        load_restricted(tmp_path / "seed.npz")


def test_an_archive_holds_no_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "seed.npz", scores=np.array({}))
    with pytest.raises(ValueError, match=r"seed.npz cannot be read: it asks for an array of objects"):
        load_restricted(tmp_path / "seed.npz")


NUMBERS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i2", ">u8", ">f2", ">f8"]
ARRAYS = {
    "C": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "Fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "exchanged": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "slices": np.arange(24.0).reshape(4, 6)[::2, ::3],
    "backwards": np.arange(6)[::-1],
    "big-endian": np.arange(5, dtype=">f4"),
    "empty": np.zeros((0, 500, 375), np.float32),
    "one": np.array(3.0),
    **{code: np.array([0, 1, 1], code) for code in NUMBERS},
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_survive(tmp_path: Path, name: str, protocol: int) -> None:
    array, path = ARRAYS[name], tmp_path / "seed.pkl"
    scalars = list(array.flat[:2])
    path.write_bytes(pickle.dumps({"a": array, "again": [(array,)], "s": scalars, "bytes": b""}, protocol))
    loaded: Any = load_restricted(path)
    assert type(loaded["a"]) is np.ndarray
    assert np.array_equal(loaded["a"], array)
    assert loaded["a"].shape == array.shape
    assert loaded["a"].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert loaded["a"].flags.writeable
    assert loaded["again"][0][0] is loaded["a"]
    assert loaded["s"] == scalars
    assert [type(scalar) for scalar in loaded["s"]] == [type(scalar) for scalar in scalars]
    np.save(tmp_path / "plain.npy", array)
    plain: Any = load_restricted(tmp_path / "plain.npy")
    assert np.array_equal(plain, array)
    assert plain.dtype == array.dtype
    assert plain.flags.f_contiguous == array.flags.f_contiguous or array.flags.forc is False


@pytest.mark.parametrize(
    "seed",
    [
        {"keys": np.array([0, 4]), "cam": torch.rand(2, 3, 4), "high_res": np.ones((2, 12, 16), np.float32)},
        {"keys": np.zeros(0, np.int64), "cam": torch.zeros(0, 3, 4), "high_res": np.zeros((0, 12, 16), "f4")},
        {3: np.ones((4, 5), np.float32), np.int64(7): np.zeros((4, 5), np.float32)},
        OrderedDict([(3, np.ones((4, 5), np.float32)), (1, torch.eye(4).T[1:, ::2])]),
    ],
)
def test_seeds_that_circulate(tmp_path: Path, seed: Any) -> None:
    np.save(tmp_path / "seed.npy", seed)
    loaded: Any = load_restricted(tmp_path / "seed.npy")
    assert list(loaded) == list(seed)
    for key, value in seed.items():
        assert type(loaded[key]) is np.ndarray
        assert np.array_equal(loaded[key], np.asarray(value))
        assert loaded[key].shape == tuple(value.shape)


@pytest.mark.parametrize(
    "code", ["bool", "uint8", "int8", "int16", "int32", "int64", "half", "float", "double"]
)
def test_tensors_of_every_number(tmp_path: Path, code: str) -> None:
    value = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, code))
    (tmp_path / "seed.pkl").write_bytes(pickle.dumps([value, value[1], value.T, value[0, 1]], 2))
    loaded: Any = load_restricted(tmp_path / "seed.pkl")
    for array, wanted in zip(loaded, [value, value[1], value.T, value[0, 1]], strict=True):
        assert array.dtype == wanted.numpy().dtype
        assert np.array_equal(array, wanted.numpy())


PYTHON_2 = {
    0: b"(dp1\nS'2007_000032'\np2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntp5\n"
    b"S'b'\np6\ntp7\nRp8\n(I1\n(L2L\ntp9\ncnumpy\ndtype\np10\n(S'f4'\np11\nI0\nI1\ntp12\nRp13\n(I3\nS'<'\n"
    b"p14\nNNNI-1\nI-1\nI0\ntp15\nbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00\\x00'\np16\ntp17\nbs.",
    2: b"\x80\x02}q\x01U\x0b2007_000032q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
    b"K\x00\x85U\x01b\x87Rq\x05(K\x01\x8a\x01\x02\x85cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87Rq\x07(K\x03U\x01<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00\x00tbs.",
}


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_files_of_python_2(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "labels.pkl").write_bytes(PYTHON_2[protocol])
    loaded: Any = load_restricted(tmp_path / "labels.pkl")
    assert list(loaded) == ["2007_000032"]
    assert loaded["2007_000032"].dtype == np.float32
    assert loaded["2007_000032"].tolist() == [1, 0]


def test_the_labels_that_circulate(real_data: Path) -> None:
    path = real_data / "voc12" / "cls_labels.npy"
    loaded: Any = load_restricted(path)
    trusted = np.load(path, allow_pickle=True, encoding="latin1").item()
    assert loaded.keys() == trusted.keys()
    assert all(np.array_equal(loaded[key], trusted[key]) for key in trusted)
