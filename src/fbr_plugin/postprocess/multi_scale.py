"""Multi-scale inference: scores averaged over several scales and the mirror image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fbr_plugin.errors import InputError
from fbr_plugin.functional import resize


def multi_scale_scores(
    score_fn: Callable[[Tensor, Any], Tensor],
    image: Tensor,
    label: Tensor | None,
    stride: int,
    scales: Sequence[float] = (1.0,),
    flip: bool = True,
    direct: bool = False,
    align_corners: bool = False,
) -> Tensor:
    """Average the scores of several views of an image at its own resolution.

    Args:
        score_fn: image [B, 3, h, w] and label [B, C] to scores [B, K, ceil(h / stride), ceil(w / stride)].
        image: [B, 3, H, W] images of one size.
        label: [B, C] image labels; None for a `score_fn` that ignores them.
        stride: pixels from one score to the next.
        scales: factors of the image's size.
        flip: whether to score the mirrored image as well.
        direct: resize each grid to the image in one step, as if it ended there. Otherwise it is first
            enlarged by the stride, and cropped where it extends past the edge.
        align_corners: whether the corner pixels of a view and of the image are the same points.

    Returns:
        [B, K, H, W] mean of what `score_fn` returns, such as CAMs after ReLU or logits.
    """
    if not scales or min(scales) <= 0:
        raise InputError(f"scales must be one or more positive factors, got {tuple(scales)}")
    height, width = image.shape[-2:]
    views = []
    for scale in scales:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        scaled = resize(image, size)
        scored = [score_fn(scaled, label), *([score_fn(scaled.flip(-1), label)] if flip else [])]
        own = scored if direct else [upsample_scores(scores, size, stride) for scores in scored]
        # Mirrored back at full resolution, because the grid extends past the right edge only.
        views += [own[0], *(scores.flip(-1) for scores in own[1:])]
    return torch.stack([resize(view, (height, width), align_corners) for view in views]).mean(0)


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
