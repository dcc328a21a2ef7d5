"""Pseudo masks: a label of every pixel from a seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.errors import InputError
from fbr_plugin.postprocess.dense_crf import STEPS
from fbr_plugin.postprocess.refine import Method, refine
from fbr_plugin.postprocess.seeds import Seed, kinds_of


class ToMask(Protocol):
    """Turns an image [H, W, 3] and its seed into a mask [H, W]."""

    def __call__(
        self, image: NDArray[np.uint8], seed: Seed, *, device: torch.device
    ) -> NDArray[np.uint8]: ...


def pseudo_mask(
    image: NDArray[np.uint8],
    seed: Seed,
    background: float | None,
    method: Method | None = None,
    scale: float = 1.0,
    device: str | torch.device = "cpu",
    steps: int = STEPS,
) -> NDArray[np.uint8]:
    """The best class of each pixel.

    Args:
        image: [H, W, 3].
        seed: scores [M, H, W] in [0, 1] of the image's classes.
        background: constant score of the background; None takes the seed's own.
        method: refines the scores along the image's edges; None takes them as they are.
        scale: divides the distances of the CRF.
        device: where PAMR is computed.
        steps: of the CRF's inference.

    Returns:
        [H, W] 0 for background, 1..C.
    """
    scores: NDArray[Any] = seed.scores.clip(0)
    if background is not None:
        seed = seed._replace(background=np.full(scores.shape[1:], background, scores.dtype))
    if seed.background is None:
        raise InputError("the seed has no background of its own: give a constant score of the background")
    scores = np.concatenate([seed.background[None], scores])
    if method is not None:
        scores = refine(image, scores, method, device=device, scale=scale, steps=steps)
    best: NDArray[np.intp] = scores.argmax(0)
    return np.concatenate([[0], seed.keys + 1])[best].astype(np.uint8)


def write_masks(
    output_dir: Path,
    to_mask: Mapping[str, ToMask],
    name: str,
    image: NDArray[np.uint8],
    seed: Seed,
    device: torch.device,
) -> tuple[bool, bool]:
    """Write an image's masks `ID.png`.

    Args:
        output_dir: parent of the folders.
        to_mask: for each folder, the function that makes its mask.
        name: ID of the image.
        image: [H, W, 3].
        seed: its seed.
        device: where PAMR is computed.

    Returns:
        Whether the last of the masks has pixels of a class, and pixels of the background.
    """
    for folder, function in to_mask.items():
        try:
            mask = function(image, seed, device=device)
        except ValueError as error:
            raise InputError(f"the seed of {name} cannot be refined: {error}") from error
        write_mask(output_dir / folder / f"{name}.png", mask)
    return kinds_of(mask)
