"""The four losses of BAS, as functions of the network's maps."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, softplus


class BASTerms(NamedTuple):
    """The terms of BAS, unweighted, each 0-d.

    Attributes:
        cls: classification, each class of an image against all absent classes.
        frg: foreground region guidance, cross-entropy of the class maps within the mask.
        bas: background activation suppression, the share of the class's score that remains without the mask.
        area: mean of the mask.
    """

    cls: Tensor
    frg: Tensor
    bas: Tensor
    area: Tensor


def present_against_absent(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of each class of an image against all absent classes, summed over the image's classes.

    For images of one class, this is the cross-entropy.

    Args:
        logits: [B, C].
        label: [B, C] in {0, 1}.

    Returns:
        0-d mean over the images; one without classes, or with all of them, adds 0.
    """
    absent = logits.masked_fill(label > 0, torch.finfo(logits.dtype).min).logsumexp(1, keepdim=True)
    return (softplus(absent - logits) * label).sum(1).mean()


def activation_ratio(score: Tensor, suppressed: Tensor) -> Tensor:
    """The share of a class's activation that remains after removing the mask from the features.

    Args:
        score: [B] class score of the image; gets no gradient.
        suppressed: [B] score of the same class from the background alone.

    Returns:
        [B] in [0, 1], of the scores after ReLU; if suppression raises the score, the constant 1 without
        gradient.
    """
    score, suppressed = score.detach().relu(), suppressed.relu()
    ratio = suppressed / score.clamp(min=torch.finfo(score.dtype).tiny)
    return torch.where(suppressed > score, torch.ones_like(ratio), ratio)


def bas_terms(
    class_maps: Tensor,
    mask: Tensor,
    suppressed_maps: Tensor,
    label: Tensor,
    target: Tensor,
    guide_classifier: bool = False,
) -> BASTerms:
    """The losses of BAS (Wu et al., CVPR 2022; for several classes per image Zhai et al., IJCV 2023).

    An image without a class adds 0 to the mean of `cls`, and does not take part in the other losses.

    Args:
        class_maps: [B, C, h, w] class activation maps before ReLU.
        mask: [B, 1, h3, w3] generator's map of the target class, on a grid as fine or finer.
        suppressed_maps: [B, C, h, w] class maps of the features outside the mask.
        label: [B, C] image labels in {0, 1}.
        target: [B] int64 index of one class of each image, in 0..C-1.
        guide_classifier: whether the guidance also trains the classifier, not only the mask.
    """
    guiding = class_maps if guide_classifier else class_maps.detach()
    height, width = class_maps.shape[-2:]
    guided = (guiding * adaptive_avg_pool2d(mask, (height, width))).mean((2, 3))
    scores = class_maps.mean((2, 3))
    kept, suppressed = (
        each.gather(1, target[:, None])[:, 0] for each in (scores, suppressed_maps.mean((2, 3)))
    )
    labelled = label.any(1)
    frg, bas, area = (
        (values * labelled).sum() / labelled.sum().clamp(min=1)
        for values in (
            cross_entropy(guided, target, reduction="none"),
            activation_ratio(kept, suppressed),
            mask.mean((1, 2, 3)),
        )
    )
    return BASTerms(present_against_absent(scores, label), frg, bas, area)
