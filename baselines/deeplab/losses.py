"""The losses of networks that are trained on pixel labels."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from fbr_plugin.data.readers.images import IGNORE


def balanced_cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Per-pixel cross-entropy, with equal weights for background and foreground pixels.

    The smoothed target is 1 - smoothing for the label and smoothing / C for each of the C other classes. If a
    batch has only background or only foreground, the loss is that of these pixels; with neither, it is 0.

    Args:
        logits: [B, 1+C, h, w].
        target: [B, h, w] int64 labels 0 to C, 255 where ignored.
        smoothing: share of the target that goes to the other classes.

    Returns:
        0-d loss.
    """
    background, ignored = target == 0, target == IGNORE
    log_probabilities = log_softmax(logits.float(), 1)
    labelled = log_probabilities.gather(1, target.masked_fill(ignored, 0)[:, None])[:, 0]
    others = (log_probabilities.sum(1) - labelled) / (logits.shape[1] - 1)
    losses = -(1 - smoothing) * labelled - smoothing * others
    halves = torch.stack([background, ~background & ~ignored])
    pixels = halves.sum((1, 2, 3))
    means = (losses * halves).sum((1, 2, 3)) / pixels.clamp(min=1)
    return means.sum() / (pixels > 0).sum().clamp(min=1)


def mean_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean cross-entropy over the pixels with a label, 0 without any.

    Args:
        logits: [B, 1+C, h, w].
        target: [B, h, w] int64 labels 0 to C, 255 where ignored.

    Returns:
        0-d loss.
    """
    total = cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
    return total / (target != IGNORE).sum().clamp(min=1)
