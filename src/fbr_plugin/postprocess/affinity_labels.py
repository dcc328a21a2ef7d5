"""Labels of a seed's confident pixels, refined along image edges: the training labels of IRN."""

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.postprocess.dense_crf import STEPS
from fbr_plugin.postprocess.refine import Method, refine
from fbr_plugin.postprocess.seeds import Seed, background_scores, threshold_labels


def affinity_labels(
    image: NDArray[np.uint8],
    seed: Seed,
    fg: float,
    bg: float,
    method: Method | None = None,
    scale: float = 1.0,
    device: str | torch.device = "cpu",
) -> NDArray[np.uint8]:
    """Labels of two thresholds, each refined on its own, as in IRN's `cam_to_ir_label.py` (commit a2ece00).

    At each threshold, every pixel is labelled with its best class if that exceeds the threshold, else as
    background, and these labels are refined. Foreground at the upper threshold keeps its class; of the rest,
    background at the lower threshold is background.

    Args:
        image: [H, W, 3].
        seed: scores [M, H, W] of the image's classes; its own background is left out.
        fg: the upper threshold.
        bg: the lower threshold.
        method: refines the labels along the image's edges; None takes them as they are.
        scale: divides the distances of the CRF.
        device: where PAMR is computed.

    Returns:
        [H, W] 0 for background, 1..C, 255 where the thresholds disagree.

    Raises:
        ValueError: `fg` is below `bg`, or `refine` rejects the image, such as one of another size.
    """
    unrefined = threshold_labels(seed, fg, bg)
    if method is None or not len(seed.keys):
        return unrefined
    classes = np.concatenate([[0], seed.keys + 1])
    upper, lower = (
        classes[refine(image, _with_background(seed, cut), method, True, device, scale).argmax(0)]
        for cut in (fg, bg)
    )
    return np.where((upper == 0) & (lower > 0), IGNORE, upper).astype(np.uint8)


def power_labels(
    image: NDArray[np.uint8],
    seed: Seed,
    fg: float,
    bg: float,
    method: Method | None = None,
    scale: float = 1.0,
    device: str | torch.device = "cpu",
    steps: int = STEPS,
) -> NDArray[np.uint8]:
    """Labels of two backgrounds (1 - best score) ** power, the training labels of AffinityNet.

    With each background, scores are refined. Background with the larger power is background; of the rest,
    foreground with the smaller power keeps its class. (YudeWang/SEAM at 3212261, `voc12/data.py`, which
    averages the refined scores over blocks of 8 x 8 pixels before it labels these.)

    Args:
        image: [H, W, 3].
        seed: scores [M, H, W] in [0, 1] of the image's classes; its own background is left out.
        fg: the smaller power, with which more is background; 4 in SEAM.
        bg: the larger power; 24 in SEAM.
        method: refines the scores along the image's edges; None takes them as they are.
        scale: divides the distances of the CRF.
        device: where PAMR is computed.
        steps: of the CRF's inference.

    Returns:
        [H, W] 0 for background, 1..C, 255 where both disagree.
    """
    classes = np.concatenate([[0], seed.keys + 1])
    scores: list[NDArray[np.float32]] = [
        np.concatenate([background_scores(seed.scores, power)[None], seed.scores.clip(0)])
        for power in (fg, bg)
    ]
    if method is not None and len(seed.keys):
        scores = [refine(image, each, method, False, device, scale, steps) for each in scores]
    sure, possible = (classes[each.argmax(0)] for each in scores)
    return np.where(possible == 0, 0, np.where(sure == 0, IGNORE, sure)).astype(np.uint8)


def _with_background(seed: Seed, score: float) -> NDArray[np.float32]:
    """Scores [1+M, H, W] with a background whose score is the same everywhere."""
    background = np.full((1, *seed.scores.shape[1:]), score, seed.scores.dtype)
    return np.concatenate([background, seed.scores.clip(0)])
