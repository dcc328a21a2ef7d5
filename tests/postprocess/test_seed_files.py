import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fbr_plugin.contract import SeedStyle
from fbr_plugin.postprocess.seed_files import read_seed, seed_path, write_seed
from fbr_plugin.postprocess.seeds import Seed, threshold_labels


@pytest.fixture
def seed() -> Seed:
    rng = np.random.default_rng(0)
    keys = np.array([2, 7])
    return Seed(keys, rng.random((2, 9, 14), np.float32), rng.random((9, 14), np.float32))


@pytest.mark.parametrize("style", ["irn", "amn", "seam"])
def test_what_is_written_is_read_back(tmp_path: Path, seed: Seed, style: SeedStyle) -> None:
    path = tmp_path / "new" / "a.npy"
    write_seed(path, seed, style)
    back = read_seed(path)
    assert back.keys.tolist() == [2, 7]
    assert back.keys.dtype == np.int64
    np.testing.assert_array_equal(back.scores, seed.scores)
    if style == "amn":
        np.testing.assert_array_equal(back.background, seed.background)
    else:
        assert back.background is None
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]


def test_files_have_the_layout_that_other_tools_read(tmp_path: Path, seed: Seed) -> None:
    write_seed(tmp_path / "a.npy", seed, "amn")
    content = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert list(content) == ["keys", "cam", "high_res"]
    assert content["cam"].shape == (3, 3, 4)
    assert isinstance(content["cam"], torch.Tensor)
    np.testing.assert_array_equal(content["high_res"][0], seed.background)
    write_seed(tmp_path / "b.npy", seed, "seam")
    content = np.load(tmp_path / "b.npy", allow_pickle=True).item()
    np.testing.assert_array_equal(content[7], seed.scores[1])


@pytest.mark.parametrize("with_background", [True, False])
def test_compact_seeds_in_half_precision(tmp_path: Path, seed: Seed, with_background: bool) -> None:
    seed = seed if with_background else seed._replace(background=None)
    path = seed_path(tmp_path / "new", "a", "compact")
    write_seed(path, seed, "compact")
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]
    with np.load(path, allow_pickle=False) as arrays:
        types = {name: arrays[name].dtype.name for name in arrays}
    expected = {"keys": "int16", "scores": "float16", "background": "float16"}
    assert types == {name: expected[name] for name in list(expected)[: 2 + with_background]}
    back = read_seed(path)
    assert (back.keys.tolist(), back.keys.dtype) == ([2, 7], np.int64)
    np.testing.assert_array_equal(back.scores, seed.scores.astype(np.float16))
    assert back.scores.dtype == np.float32
    if seed.background is None:
        assert back.background is None
    else:
        np.testing.assert_array_equal(back.background, seed.background.astype(np.float16))


def test_reads_tensors_and_missing_high_res(tmp_path: Path) -> None:
    maps = torch.rand(1, 3, 4)
    np.save(tmp_path / "a.npy", np.array({"keys": torch.tensor([1]), "cam": maps}, dtype=object))
    np.testing.assert_array_equal(read_seed(tmp_path / "a.npy").scores, maps.numpy())


@pytest.mark.parametrize("style", ["irn", "compact"])
def test_image_without_classes(tmp_path: Path, style: SeedStyle) -> None:
    empty = Seed(np.zeros(0, np.int64), np.zeros((0, 5, 6), np.float32))
    path = seed_path(tmp_path, "a", style)
    write_seed(path, empty, style)
    back = read_seed(path)
    assert back.scores.shape == (0, 5, 6)
    assert threshold_labels(back, 0.3, 0.1).max() == 0


def test_picks_the_classes_of_an_image() -> None:
    scores = torch.rand(4, 3, 3)
    label = torch.tensor([0.0, 1, 1])
    seed = Seed.from_dense(scores, label)
    assert seed.keys.tolist() == [1, 2]
    assert seed.background is not None
    np.testing.assert_array_equal(seed.background, scores[0])
    np.testing.assert_array_equal(seed.scores, scores[2:])
    assert Seed.from_dense(scores[1:], label).background is None
    with pytest.raises(ValueError, match=r"with C=3, got \(2, 3, 3\)"):
        Seed.from_dense(scores[:2], label)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds a list"),
        ({}, "it holds an empty dict"),
        ({"cams": 1}, r"it has the entries \['cams'\]"),
        ({"keys": np.array([0])}, "is not a seed"),
        (
            {"keys": np.array([0]), "high_res": np.zeros((3, 4, 4))},
            r"1 keys for maps of the shape \(3, 4, 4\)",
        ),
        (
            {"keys": np.array([0, 0]), "high_res": np.zeros((2, 4, 4))},
            r"keys \[0, 0\] are not 0-based classes",
        ),
        ({-1: np.zeros((4, 4))}, r"keys \[-1\] are not 0-based classes"),
        ({0: np.zeros((4, 4)), 1: np.zeros((5, 4))}, "is not a seed"),
        ({0: np.full((4, 4), np.nan)}, "it has NaN or infinite scores"),
        (np.zeros((2, 3)), "it holds a ndarray"),
    ],
)
def test_a_pickle_that_is_no_seed(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "odd.npy"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_seed(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.pkl", "a.npz"])
def test_a_file_that_would_run_something_is_refused(tmp_path: Path, name: str) -> None:
    class Malice:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "trace",)

    content, path = {"keys": np.array([0]), "cam": np.zeros((1, 2, 2)), "scores": Malice()}, tmp_path / name
    if name == "a.npz":
        np.savez(path, keys=np.array([0]), scores=np.array([Malice()], dtype=object))
    else:
        path.write_bytes(pickle.dumps(content)) if name == "a.pkl" else np.save(path, np.array(content))
    with pytest.raises(
        ValueError, match=rf"{name} cannot be read: .*(refused|Object arrays cannot be loaded)"
    ):
        read_seed(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"scores": np.zeros((1, 2, 2))}, r"a.npz is not a seed: it has the entries \['scores'\]"),
        ({"keys": np.array([1])}, r"a.npz is not a seed"),
        ({"keys": np.array([1]), "scores": np.zeros((2, 2))}, r"1 keys for maps of the shape \(2, 2\)"),
        ({"keys": np.array([1, 2]), "scores": np.zeros((1, 2, 2))}, r"2 keys for maps of the shape"),
        ({"keys": np.array([1]), "scores": np.full((1, 2, 2), np.nan)}, "it has NaN or infinite scores"),
        ({"keys": np.array([1]), "scores": np.array([[["a"]]])}, "a.npz cannot be read: .*type 'U1'"),
        (
            {"keys": np.array([1]), "scores": np.zeros((1, 2, 2)), "background": np.zeros(3)},
            "a.npz is not a seed",
        ),
    ],
)
def test_arrays_that_are_no_seed(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_seed(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0, 3, 100, -30])
def test_a_cut_archive(tmp_path: Path, seed: Seed, keep: int) -> None:
    path = tmp_path / "cut.npz"
    write_seed(path, seed, "compact")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.npz cannot be read"):
        read_seed(path)


def test_a_changed_byte_in_an_archive(tmp_path: Path, seed: Seed) -> None:
    path = tmp_path / "changed.npz"
    write_seed(path, seed, "compact")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"changed\.npz cannot be read"):
        read_seed(path)


def test_unreadable_and_missing_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.npy"
    write_seed(path, Seed(np.array([0]), np.zeros((1, 8, 8), np.float32)), "irn")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"cut\.npy cannot be read"):
        read_seed(path)
    with pytest.raises(FileNotFoundError, match=r"none\.npy does not exist"):
        read_seed(tmp_path / "none.npy")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, seed: Seed) -> None:
    write_seed(tmp_path / "a.npy", seed, "irn")
    with pytest.raises(ValueError, match="'amn' needs a background map"):
        write_seed(tmp_path / "a.npy", seed._replace(background=None), "amn")
    unknown: Any = "IRN"
    with pytest.raises(ValueError, match=r"style must be one of 'irn', 'amn', 'seam', 'compact', got 'IRN'"):
        write_seed(tmp_path / "a.npy", seed, unknown)
    assert read_seed(tmp_path / "a.npy").background is None


def test_two_threshold_labels_are_strict() -> None:
    scores = np.array([[[0.1, 0.11, 0.35, 0.36]], [[0.0, 0.0, 0.0, 0.9]]], np.float32)
    labels = threshold_labels(Seed(np.array([3, 5]), scores), 0.35, 0.1)
    assert labels.tolist() == [[0, 255, 255, 6]]
    assert labels.dtype == np.uint8
    with pytest.raises(ValueError, match=r"^fg \(0\.1\) is below bg \(0\.3\): swap them$"):
        threshold_labels(Seed(np.array([3, 5]), scores), 0.1, 0.3)


def test_classes_that_a_label_cannot_hold() -> None:
    scores = np.ones((1, 2, 2), np.float32)
    assert (threshold_labels(Seed(np.array([253]), scores), 0.3, 0.1) == 254).all()
    with pytest.raises(ValueError, match=r"class 255 does not fit into a label: .* 1 to 254"):
        threshold_labels(Seed(np.array([254]), scores), 0.3, 0.1)
