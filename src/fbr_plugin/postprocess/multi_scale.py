"""Multi-scale inference: scores averaged over several scales and the mirror image."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fbr_plugin.errors import OUT_OF_MEMORY, InputError, WarnOnce, check_choice
from fbr_plugin.functional import resize

_warn_of_memory = WarnOnce()

GridExtent = Literal["own", "image", "cells"]


def check_scales(name: str, scales: Sequence[float]) -> None:
    """Raise unless there are scales, all of them positive; `name` is the argument's."""
    if not scales or not min(scales) > 0:
        raise InputError(f"{name} must be one or more positive factors, got {tuple(scales)}")


def multi_scale_scores(
    score_fn: Callable[[Tensor, Any], Tensor],
    image: Tensor,
    label: Tensor | None,
    stride: int,
    scales: Sequence[float] = (1.0,),
    mirrored: Sequence[bool] = (False, True),
    extent: GridExtent = "own",
    align_corners: bool = False,
) -> Tensor:
    """Average the scores of several views of an image at its own resolution.

    A view for which the memory does not suffice is scored at half its scale, or half of that, and a warning
    says so once.

    Args:
        score_fn: image [B, 3, h, w] and label [B, C] to scores [B, K, ceil(h / stride), ceil(w / stride)].
            On a CPU the image is channels-last.
        image: [B, 3, H, W] images of one size.
        label: [B, C] image labels; None for a `score_fn` that ignores them.
        stride: pixels from one score to the next.
        scales: factors of the image's size.
        mirrored: which of the views to score at each scale: False for the image, True for its mirror image.
        extent: what the grid of a view covers. "own" is `stride` pixels of the view for each score, so that
            a pixel keeps its place. The released code of CAM and AMN stretches the grids of all scales over
            one area: the "image", or the "cells" of its grid at scale 1, which may extend past its edge.
        align_corners: whether the corner pixels of a view and of the image are the same points ("own" alone).

    Returns:
        [B, K, H, W] mean of what `score_fn` returns, such as CAMs after ReLU or logits.
    """
    check_scales("scales", scales)
    check_choice("extent", extent, GridExtent)
    height, width = image.shape[-2:]
    cell = stride if extent == "cells" else 1
    area = (-(-height // cell) * cell, -(-width // cell) * cell)
    views = []
    for scale in scales:
        for flip in mirrored:
            scores, size = _fitting_scores(score_fn, image.flip(-1) if flip else image, label, stride, scale)
            if extent == "own":
                # Mirrored back at full resolution, because the grid extends past the right edge only.
                full = resize(upsample_scores(scores, size, stride), (height, width), align_corners)
                views.append(full.flip(-1) if flip else full)
            else:
                full = resize(scores.flip(-1) if flip else scores, area)
                views.append(full[..., :height, :width])
    return torch.stack(views).mean(0)


def _fitting_scores(
    score_fn: Callable[[Tensor, Any], Tensor], image: Tensor, label: Tensor | None, stride: int, scale: float
) -> tuple[Tensor, tuple[int, int]]:
    """The scores of a view at a scale, or at half of it and so on, and the size [h, w] of the view."""
    height, width = image.shape[-2:]
    while True:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        try:
            view = resize(image, size)
            if view.device.type == "cpu":  # channels-last, most networks take less time there
                view = view.contiguous(memory_format=torch.channels_last)
            return score_fn(view, label), size
        except RuntimeError as error:
            if not re.search(OUT_OF_MEMORY, str(error)) or min(size) < 2 * stride:
                raise
        # The error is gone here, and with it the tensors of its traceback.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _warn_of_memory(
            f"A view of {size[0]}x{size[1]} pixels does not fit into memory: it is scored at half its size, "
            "and so are others that do not fit. To score all images alike, set data.max_size, lower "
            "loading.eval_batch_size, or leave out the largest of the scales."
        )
        scale /= 2


def upsample_scores(scores: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Upsample scores to the size of their image, past whose edge their grid may extend.

    Args:
        scores: [B, K, ceil(H / stride), ceil(W / stride)].
        size: H and W.
        stride: pixels from one score to the next.

    Returns:
        [B, K, H, W].
    """
    grid = tuple(scores.shape[-2:])
    expected = tuple(-(-side // stride) for side in size)
    if grid != expected:
        raise InputError(
            f"scores of a {size[0]}x{size[1]} image have the grid {grid}, expected {expected} at stride "
            f"{stride}: is the stride right?"
        )
    full = resize(scores, (grid[0] * stride, grid[1] * stride))
    return full[..., : size[0], : size[1]]
