import os
import pickle
from pathlib import Path

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
    with pytest.raises(ValueError, match=r"seed.pkl cannot be read: Weights only load failed"):
        load_restricted(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
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
