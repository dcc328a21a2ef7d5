"""Pixel-adaptive mask refinement (PAMR) along the edges of an image, without trained parameters."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.errors import InputError

SHARPNESS = 0.1  # share of the local standard deviation that counts as one unit of difference
EPSILON = 1e-8  # keeps flat surroundings finite: all neighbours then weigh the same


@torch.no_grad()
def pamr(
    image: Tensor, masks: Tensor, iterations: int = 10, dilations: Sequence[int] = (1, 2, 4, 8, 12, 24)
) -> Tensor:
    """Repeatedly replace masks by the mean over neighbours, weighted by the similarity of the pixels.

    Each pixel has 8 neighbours at every dilation; the image is extended by its border pixels.
    A neighbour's weight is the softmax over all neighbours of -mean over channels of
    |difference| / (0.1 sigma + 1e-8), where sigma is the channel's standard deviation over all neighbours
    and, once for each dilation, the pixel itself. As the weights of a pixel sum to 1, probabilities remain
    probabilities, and the scale of the image's values does not matter. Araslanov and Roth, *Single-Stage
    Semantic Segmentation from Image Labels*, CVPR 2020, as released (`visinf/1-stage-wseg` at d905fca,
    `models/mods/pamr.py`), except that masks on another grid are an error instead of being resized.

    Memory: the weights, 8 numbers per pixel and dilation, and three times the masks.

    Args:
        image: [B, 3, H, W] images of any size and scale; other numbers of channels work, too.
        masks: [B, K, H, W] one map per class on the same grid.
        iterations: number of repetitions; 0 returns the masks unchanged.
        dilations: distances of the neighbours in pixels.

    Returns:
        [B, K, H, W] of the type of `masks`; computed in the wider of both types, in float32 at least.

    Raises:
        ValueError: shapes or types do not match, or `iterations` or `dilations` is out of range.
    """
    if image.ndim != 4 or masks.ndim != 4 or (len(image), *image.shape[2:]) != (len(masks), *masks.shape[2:]):
        raise InputError(
            "image must be [B, 3, H, W] and masks [B, K, H, W] on the same grid, got "
            f"{tuple(image.shape)} and {tuple(masks.shape)}: resize the masks first"
        )
    if not image.is_floating_point() or not masks.is_floating_point():
        raise InputError(f"image and masks must be of a floating type, got {image.dtype} and {masks.dtype}")
    if iterations < 0 or not dilations or min(dilations) < 1:
        raise InputError(
            "iterations must be at least 0 and dilations one or more distances of at least 1, "
            f"got {iterations} and {tuple(dilations)}"
        )
    exact = torch.promote_types(torch.promote_types(image.dtype, masks.dtype), torch.float32)
    weights = _weights(image.to(exact), dilations)
    refined = masks.to(exact)
    for _ in range(iterations):
        total = torch.zeros_like(refined)
        for weight, neighbour in zip(weights, _neighbours(refined, dilations), strict=True):
            total.addcmul_(weight, neighbour)
        refined = total
    return refined.to(masks.dtype)


def _neighbours(maps: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Views [B, K, H, W] of maps [B, K, H, W], moved to each of the 8 neighbours at every dilation."""
    height, width = maps.shape[2:]
    reach = max(dilations)
    padded = F.pad(maps, [reach] * 4, mode="replicate")
    for step in dilations:
        for down in (-step, 0, step):
            for right in (-step, 0, step):
                if down or right:
                    yield padded[..., reach + down :, reach + right :][..., :height, :width]


def _weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weight of each neighbour of each pixel: [8D, B, 1, H, W] for an image [B, 3, H, W] and D dilations."""
    first, second = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in _neighbours(image, dilations):
        difference = neighbour - image
        first += difference
        second.addcmul_(difference, difference)
    # Differences to the pixel itself, which is among the samples, are more precise than raw moments.
    samples = 9 * len(dilations)
    deviation = ((second - first.square() / samples) / (samples - 1)).sqrt()
    unit = SHARPNESS * deviation + EPSILON
    weights = image.new_empty(8 * len(dilations), len(image), 1, *image.shape[2:])
    for weight, neighbour in zip(weights, _neighbours(image, dilations), strict=True):
        torch.mean(-(neighbour - image).abs() / unit, 1, keepdim=True, out=weight)
    weights.sub_(weights.amax(0)).exp_()  # softmax in place
    return weights.div_(weights.sum(0))
