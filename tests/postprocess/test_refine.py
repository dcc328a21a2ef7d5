"""Refiners against pydensecrf and PAMR called by hand, in corner cases, and in worker processes."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers.processes import ended

from fbr_plugin import processes
from fbr_plugin.functional.pamr import pamr
from fbr_plugin.postprocess.refine import default_method, refine

METHODS = ("pamr", "crf", "deeplab_crf")


@pytest.fixture
def densecrf() -> ModuleType:
    """The module of pydensecrf2, where it is installed."""
    return pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is missing: .[crf] installs it")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each refiner that is installed."""
    if request.param != "pamr":
        request.getfixturevalue("densecrf")
    return request.param


def photo(
    height: int = 24, width: int = 32, classes: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image [H, W, 3] of vertical stripes, one a class, and scores [K, H, W] that blur them."""
    source = np.random.default_rng(seed)
    stripe = np.arange(width) * classes // width
    colours = source.integers(20, 236, (classes, 3))
    image = colours[stripe] + source.integers(-9, 10, (height, width, 3))
    near = np.exp(-0.5 * (stripe - np.arange(classes)[:, None]) ** 2)[:, None]
    scores = (near + source.random((classes, height, width))).astype(np.float32)
    return image.astype(np.uint8), scores / scores.sum(0)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(
    ("method", "hard", "near", "sxy", "srgb", "compat"),
    [("crf", False, 3, 80, 13, 10), ("crf", True, 3, 50, 5, 10), ("deeplab_crf", False, 1, 67, 3, 4)],
)
def test_crf_is_pydensecrf_called_by_hand(densecrf, method, hard, near, sxy, srgb, compat, scale):
    from pydensecrf.utils import unary_from_labels, unary_from_softmax

    image, scores = photo()
    crf = densecrf.DenseCRF2D(32, 24, 3)
    if hard:
        unary = unary_from_labels(scores.argmax(0), 3, gt_prob=0.7, zero_unsure=False)
    else:
        unary = unary_from_softmax(scores)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=near / scale, compat=3)
    crf.addPairwiseBilateral(sxy=sxy / scale, srgb=srgb, rgbim=image, compat=compat)
    expected = np.array(crf.inference(10)).reshape(3, 24, 32)
    refined = refine(image, scores, method, hard, scale=scale)
    assert np.abs(refined - expected).max() <= 1e-6
    assert refined.dtype == np.float32
    assert np.abs(refined - scores).max() > 0.1


def test_pamr_takes_scores_or_labels():
    image, scores = photo()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    labels = torch.nn.functional.one_hot(torch.from_numpy(scores.argmax(0))).permute(2, 0, 1).float()
    for hard, masks in ((False, torch.from_numpy(scores)), (True, labels)):
        expected = pamr(pixels, masks[None])[0].numpy()
        np.testing.assert_allclose(refine(image, scores, "pamr", hard), expected, atol=1e-6)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (24, 32)])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_every_shape_gives_probabilities(method, hard, size, classes):
    image, scores = photo(*size, classes=classes)
    refined = refine(image, scores, method, hard)
    assert refined.dtype == np.float32
    assert refined.shape == scores.shape
    np.testing.assert_allclose(refined.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("hard", [False, True])
def test_all_background_stays_background(method, hard):
    image, scores = photo()
    scores[:] = 0
    scores[0] = 1
    assert (refine(image, scores, method, hard).argmax(0) == 0).all()


def test_scores_are_divided_by_their_sum(method):
    image, scores = photo()
    expected = refine(image, scores, method)
    for other in (scores * 7, scores.astype(np.float64)):
        np.testing.assert_allclose(refine(image, other, method), expected, atol=1e-4)
    blank, even = scores.copy(), scores.copy()
    blank[:, 5:9], even[:, 5:9] = 0, 1 / 3
    np.testing.assert_allclose(refine(image, blank, method), refine(image, even, method), atol=1e-5)


def test_layout_in_memory_does_not_matter(method):
    image, scores = photo()
    expected = refine(image, scores, method)
    mirrored = image[:, ::-1].copy()[:, ::-1]
    transposed = np.asfortranarray(scores)
    for array in (mirrored, transposed):
        array.setflags(write=False)
    assert np.array_equal(refine(mirrored, transposed, method), expected)


def test_refined_stripes_are_clean(method):
    image, scores = photo(48, 60)
    truth = np.broadcast_to(np.arange(60) * 3 // 60, (48, 60))
    refined = refine(image, scores, method)
    assert (refined.argmax(0) == truth).mean() > (scores.argmax(0) == truth).mean() + 0.05


@pytest.mark.parametrize(
    ("image", "scores", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), None, r"image must be uint8 \[H, W, 3\], got float32 \[4, 4, 3\]"),
        (np.zeros((4, 4), np.uint8), None, r"got uint8 \[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), None, r"got uint8 \[0, 4, 3\]"),
        (None, np.zeros((2, 4, 4), np.int64), r"scores must be floating \[K, H, W\], got int64 \[2, 4, 4\]"),
        (None, np.zeros((4, 4), np.float32), r"got float32 \[4, 4\]"),
        (None, np.zeros((0, 4, 4), np.float32), r"got float32 \[0, 4, 4\]"),
        (None, np.zeros((2, 4, 5), np.float32), r"grid \[4, 5\], but their image \[4, 4\]: resize"),
        (None, np.full((2, 4, 4), np.nan, np.float32), "finite and at least 0, got nan to nan"),
        (None, np.full((2, 4, 4), np.inf, np.float32), "finite and at least 0, got inf"),
        (None, np.full((2, 4, 4), -0.5, np.float32), "finite and at least 0, got -0.5 to -0.5"),
    ],
)
def test_mistakes_are_named(image, scores, message):
    image = np.zeros((4, 4, 3), np.uint8) if image is None else image
    scores = np.ones((2, 4, 4), np.float32) if scores is None else scores
    with pytest.raises(ValueError, match=message):
        refine(image, scores, "pamr")


def test_unknown_settings_are_named():
    image, scores = photo()
    with pytest.raises(
        ValueError, match="method must be one of 'crf', 'deeplab_crf', 'pamr', None, got 'CRF'"
    ):
        refine(image, scores, "CRF")
    with pytest.raises(ValueError, match="scale must be above 0, got 0"):
        refine(image, scores, "pamr", scale=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        refine(image, scores, "crf", steps=0)


def test_steps_of_the_crf(densecrf):
    image, scores = photo()
    few, many = (refine(image, scores, "crf", steps=steps) for steps in (1, 10))
    assert not np.array_equal(few, many)
    assert np.array_equal(refine(image, scores, "crf"), many)


def test_without_pydensecrf_pamr_is_the_default(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    image, scores = photo()
    assert default_method() == "pamr"
    assert np.array_equal(refine(image, scores), refine(image, scores, "pamr"))
    with pytest.raises(ImportError, match=r"pip install 'fbr_plugin\[crf\]'.* \"pamr\""):
        refine(image, scores, "crf")


def test_with_pydensecrf_a_crf_is_the_default(monkeypatch):
    installed = ModuleType("pydensecrf")
    installed.__spec__ = ModuleSpec("pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf", installed)
    assert default_method() == "crf"


KILLED = """
import multiprocessing
import time
from processes import start_pool  # the file by itself, which starts fast

if __name__ == "__main__":
    pool = start_pool(1, time.sleep, 0)
    pool.submit(abs, 0).result()
    print(multiprocessing.active_children()[0].pid, flush=True)
    pool.submit(time.sleep, 60).result()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_workers_end_with_a_killed_process(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(processes.__file__).parent)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE) as owner:
        worker = int(owner.stdout.readline())
        owner.kill()
    assert ended(worker)
