"""Refinement of scores along the edges of their image: by a dense CRF or by PAMR."""

from importlib.util import find_spec
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.errors import InputError, check_choice
from fbr_plugin.functional.pamr import pamr
from fbr_plugin.postprocess.dense_crf import DEEPLAB, STEPS, dense_crf, import_pydensecrf

Method = Literal["crf", "deeplab_crf", "pamr"]


def default_method() -> Method:
    """The default method: a dense CRF if pydensecrf2 is installed, else PAMR."""
    return "pamr" if find_spec("pydensecrf") is None else "crf"


def refine(
    image: NDArray[np.uint8],
    scores: NDArray[np.floating],
    method: Method | None = None,
    hard: bool = False,
    device: str | torch.device = "cpu",
    scale: float = 1.0,
    steps: int = STEPS,
) -> NDArray[np.float32]:
    """Refine the scores of an image along its edges.

    Args:
        image: [H, W, 3] RGB.
        scores: [K, H, W] non-negative scores of the background, first, and of the image's classes. Each
            pixel's scores are divided by their sum; if that is 0, all classes are equally likely.
        method: "crf", "deeplab_crf" (the dense CRF with DeepLab-v2's distances and weights) or "pamr"; None
            uses `default_method()`.
        hard: whether to use each pixel's best class, the first among equals, as a label instead of its
            scores.
        device: where PAMR is computed. The CRF runs on the CPU.
        scale: how many times smaller objects are than in VOC's photos, where they measure about 140 pixels
            and for which the CRF's distances were chosen.
        steps: of the CRF's inference.

    Returns:
        [K, H, W] probabilities.

    Raises:
        ImportError: the method is a CRF, but pydensecrf2 cannot be imported.
        ValueError: the method is unknown, scale or steps are not positive, image or scores have a wrong shape
            or type, or scores are negative or not finite.
    """
    method = _checked(method, scale, steps)
    image, scores = _prepared(image, scores)
    if method != "pamr":
        return dense_crf(image, scores, hard, scale, DEEPLAB if method == "deeplab_crf" else None, steps)
    if hard:
        scores = (scores.argmax(0) == np.arange(len(scores))[:, None, None]).astype(np.float32)
    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None] / 255
    return pamr(pixels, torch.from_numpy(scores).to(device)[None])[0].cpu().numpy()


def check_refinement(scale: float, steps: int = STEPS, where: str = "") -> None:
    """Raise unless scale and steps are positive; `where` stands before their names in errors."""
    if not scale > 0:
        raise InputError(f"{where}scale must be above 0, got {scale}")
    if steps < 1:
        raise InputError(f"{where}steps must be at least 1, got {steps}")


def _checked(method: Method | None, scale: float, steps: int) -> Method:
    """Check the arguments, and choose the method."""
    check_choice("method", method, (*get_args(Method), None))
    check_refinement(scale, steps)
    method = method or default_method()
    if method != "pamr":
        import_pydensecrf()
    return method


def _prepared(
    image: NDArray[np.uint8], scores: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Contiguous copies of image and scores, with scores that sum to 1."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    if not np.issubdtype(scores.dtype, np.floating) or scores.ndim != 3 or not len(scores):
        raise InputError(f"scores must be floating [K, H, W], got {scores.dtype} {list(scores.shape)}")
    if scores.shape[1:] != image.shape[:2]:
        raise InputError(
            f"scores have the grid {list(scores.shape[1:])}, but their image {list(image.shape[:2])}: "
            "resize them to it"
        )
    if not (np.isfinite(scores).all() and scores.min() >= 0):
        raise InputError(f"scores must be finite and at least 0, got {scores.min()} to {scores.max()}")
    total = scores.sum(0, dtype=np.float64)
    shares = np.full(scores.shape, 1 / len(scores), np.float32)
    np.divide(scores, total, out=shares, where=total > 0, casting="same_kind")
    return np.array(image, order="C"), shares
