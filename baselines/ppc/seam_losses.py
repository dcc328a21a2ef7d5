"""The losses of SEAM and EPS, to which PPC adds its contrasts.

[SEAM] Wang et al., Self-supervised Equivariant Attention Mechanism for Weakly Supervised Semantic
Segmentation (CVPR 2020), YudeWang/SEAM at 3212261. [EPS] Lee et al., Railroad is not a Train: Saliency as
Pseudo-pixel Supervision for Weakly Supervised Semantic Segmentation (CVPR 2021), halbielee/EPS at 0c2cdd0.
"""

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

EPSILON = 1e-5


def max_normalise(maps: Tensor) -> Tensor:
    """Scale the positive part of each map of [B, C, h, w] to [0, 1]; a flat map becomes 0."""
    maps = maps.relu()
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low - EPSILON).relu() / (high - low + EPSILON)


def with_background(maps: Tensor) -> Tensor:
    """Prepend a background of 1 - the strongest of the maps [B, C, h, w]: [B, 1+C, h, w]."""
    return torch.cat([1 - maps.amax(1, keepdim=True), maps], 1)


def keep_strongest(maps: Tensor) -> Tensor:
    """Keep the background and, at each pixel, the strongest foreground class of [B, 1+C, h, w]."""
    foreground = maps[:, 1:]
    return torch.cat([maps[:, :1], foreground * (foreground == foreground.amax(1, keepdim=True))], 1)


def equivariance(
    cams: tuple[Tensor, Tensor], refined: tuple[Tensor, Tensor], share: float = 0.2
) -> tuple[Tensor, Tensor]:
    """SEAM's two losses on a pair of views: between their CAMs, and between CAMs and refined CAMs.

    The first (ER) is the mean absolute difference of the CAMs. The second (ECR) is the mean of each image's
    largest differences between a view's refined CAM and the strongest classes of the other view's CAM, which
    serves as a target without gradient; it is summed over the views.

    Args:
        cams: [B, C, h, w] of each view, in [0, 1], 0 for classes that the image lacks.
        refined: [B, 1+C, h, w] of each view, likewise, the background first.
        share: share of an image's differences that counts for ECR.

    Returns:
        ER and ECR, 0-d.
    """
    targets = [keep_strongest(with_background(cam.detach())) for cam in cams]
    regularisation = torch.zeros_like(refined[0][0, 0, 0, 0])
    for target, own in zip(reversed(targets), refined, strict=True):
        differences = (target - own).abs().flatten(1)
        hardest = max(1, int(differences.shape[1] * share))
        regularisation = regularisation + differences.topk(hardest, 1).values.mean()
    return l1_loss(*cams), regularisation


def adaptive_min_pooling(maps: Tensor) -> Tensor:
    """SEAM's background term: the mean foreground over each image's quarter of pixels with the least.

    Args:
        maps: [B, C, h, w] foreground maps, 0 for classes that the image lacks.
    """
    strongest = maps.amax(1).flatten(1)
    lowest = strongest.topk(max(1, strongest.shape[1] // 4), 1, largest=False).values
    return lowest.relu().mean()


def saliency_loss(
    logits: Tensor, saliency: Tensor, label: Tensor, overlap: float = 0.4, blend: float = 0.5
) -> Tensor:
    """EPS's loss: regression of the foreground and background maps on the saliency map.

    The map of a class of the image counts as foreground if enough of it is salient, else as background.

    Args:
        logits: [B, 1+C, h, w], background first.
        saliency: [B, h, w] in [0, 1].
        label: [B, C] image labels in {0, 1}.
        overlap: share of a class's pixels that must be salient (both above 0.5) for it to be foreground.
        blend: weight of the foreground map; the inverted background map gets the rest.

    Returns:
        0-d mean squared error.
    """
    maps = logits.softmax(1)
    foreground = maps[:, 1:]
    claimed = (foreground.detach() > 0.5).flatten(2).to(maps.dtype)
    salient = (saliency > 0.5).flatten(1).to(maps.dtype)
    share = torch.einsum("bcn,bn->bc", claimed, salient) / (claimed.sum(2) + 1e-4)
    valid = label * (share > overlap)
    estimate = torch.einsum("bchw,bc->bhw", foreground, valid)
    remainder = 1 - maps[:, 0] - torch.einsum("bchw,bc->bhw", foreground, label - valid)
    return mse_loss(blend * estimate + (1 - blend) * remainder, saliency.to(maps.dtype))
