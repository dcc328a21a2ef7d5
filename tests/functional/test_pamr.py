"""PAMR against a loop over pixels, and in closed-form cases."""

import math
import statistics

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fbr_plugin.functional.pamr import pamr

DILATIONS = (1, 2, 4, 8, 12, 24)


def naive(image: list, masks: list, iterations: int, dilations: tuple[int, ...]) -> list:
    """One image: lists [3][H][W] and [K][H][W] -> [K][H][W], pixel by pixel, in Python's floats."""
    height, width = len(masks[0]), len(masks[0][0])

    def around(row: int, column: int) -> list[tuple[int, int]]:
        """The 8 neighbours at every dilation, moved into the image where they lie outside."""
        return [
            (min(max(row + down * d, 0), height - 1), min(max(column + right * d, 0), width - 1))
            for d in dilations
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if down or right
        ]

    def blend(mask: list, shares: list[float], places: list[tuple[int, int]]) -> float:
        """The weighted mean of a mask at some places."""
        return sum(share * mask[y][x] for share, (y, x) in zip(shares, places, strict=True))

    weights = {}
    for row in range(height):
        for column in range(width):
            places = around(row, column)
            logits = [0.0] * len(places)
            for channel in image:
                own = channel[row][column]
                values = [channel[y][x] for y, x in places]
                sigma = statistics.stdev(values + [own] * len(dilations))
                for n, value in enumerate(values):
                    logits[n] -= abs(value - own) / (0.1 * sigma + 1e-8) / len(image)
            top = max(logits)
            shares = [math.exp(logit - top) for logit in logits]
            weights[row, column] = [share / sum(shares) for share in shares], places
    for _ in range(iterations):
        masks = [
            [[blend(mask, *weights[row, column]) for column in range(width)] for row in range(height)]
            for mask in masks
        ]
    return masks


CASES = [
    ((7, 9), 3, 2, DILATIONS),
    ((5, 1), 2, 3, DILATIONS),
    ((1, 6), 1, 3, (1, 3)),
    ((1, 1), 2, 2, (1,)),
    ((12, 4), 4, 1, (2, 5, 30)),
]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("size", "classes", "iterations", "dilations"), CASES)
def test_equals_the_loop_over_pixels(size, classes, iterations, dilations, dtype, bound, generator):
    image = torch.rand(2, 3, *size, dtype=dtype, generator=generator)
    image[1].mul_(8).round_().div_(8)  # few colours: many differences of exactly 0
    masks = torch.rand(2, classes, *size, dtype=dtype, generator=generator)
    expected = torch.tensor(
        [naive(i.tolist(), m.tolist(), iterations, dilations) for i, m in zip(image, masks, strict=True)],
        dtype=torch.float64,
    )
    refined = pamr(image, masks, iterations, dilations)
    assert refined.dtype == dtype
    assert (refined - expected).abs().max() <= bound


def test_probabilities_remain_probabilities(generator):
    image = torch.rand(2, 3, 40, 30, generator=generator)
    masks = torch.rand(2, 5, 40, 30, generator=generator).softmax(1)
    refined = pamr(image, masks)
    torch.testing.assert_close(refined.sum(1), torch.ones(2, 40, 30))
    assert refined.min() >= 0
    assert refined.max() <= 1


def test_a_flat_image_averages_its_neighbours():
    masks = torch.zeros(1, 1, 5, 5)
    masks[..., 2, 2] = 8
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = 1
    expected[2, 2] = 0
    torch.testing.assert_close(pamr(torch.full((1, 3, 5, 5), 0.7), masks, 1, (1,))[0, 0], expected)


def test_a_mask_moves_to_the_edge_of_its_image():
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 1
    masks = torch.zeros(1, 2, 32, 32)
    masks[:, 1, :, 12:] = 1  # four columns too wide
    masks[:, 0] = 1 - masks[:, 1]
    refined = pamr(image, masks).argmax(1)
    assert torch.equal(refined[0], (image[0, 0] > 0).long())


def test_the_scale_of_the_image_does_not_matter(generator):
    image = torch.rand(1, 3, 20, 20, dtype=torch.float64, generator=generator)
    masks = torch.rand(1, 2, 20, 20, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(pamr(255 * image + 10, masks), pamr(image, masks), rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_single(generator):
    image = torch.randint(256, (1, 3, 20, 20), generator=generator) / 256.0  # exact in half precision
    masks = torch.rand(1, 2, 20, 20, generator=generator).half()
    refined = pamr(image.half(), masks)
    assert torch.equal(refined, pamr(image, masks.float()).half())


def test_inputs_are_left_alone_and_results_repeat(generator):
    image = torch.rand(1, 20, 20, 3, generator=generator).permute(0, 3, 1, 2)  # not contiguous
    masks = torch.rand(1, 2, 20, 20, generator=generator)
    before = image.clone(), masks.clone()
    first, second = pamr(image, masks), pamr(image.contiguous(), masks)
    assert torch.equal(first, second)
    assert torch.equal(first, pamr(image, masks, 10, DILATIONS))
    assert torch.equal(image, before[0])
    assert torch.equal(masks, before[1])
    assert torch.equal(pamr(image, masks, iterations=0), masks)


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.numel = max(
            [self.numel, *(x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor))]
        )
        return result


@pytest.mark.parametrize("classes", [2, 81])
def test_no_tensor_holds_all_neighbours_of_all_classes(classes, generator):
    image = torch.rand(1, 3, 64, 48, generator=generator)
    masks = torch.rand(1, classes, 64, 48, generator=generator)
    with Largest() as largest:
        pamr(image, masks, 2)
    padded = (64 + 2 * 24) * (48 + 2 * 24)
    assert largest.numel == max(48 * 64 * 48, max(classes, 3) * padded)


@pytest.mark.parametrize(
    ("image", "masks", "options", "message"),
    [
        ((1, 3, 8, 8), (1, 2, 4, 4), {}, r"\(1, 3, 8, 8\) and \(1, 2, 4, 4\): resize the masks first"),
        ((2, 3, 8, 8), (1, 2, 8, 8), {}, "on the same grid"),
        ((3, 8, 8), (2, 8, 8), {}, r"image must be \[B, 3, H, W\]"),
        ((1, 3, 8, 8), (1, 2, 8, 8), {"iterations": -1}, r"at least 0 .* got -1"),
        ((1, 3, 8, 8), (1, 2, 8, 8), {"dilations": ()}, r"one or more distances .* \(\)"),
        ((1, 3, 8, 8), (1, 2, 8, 8), {"dilations": (1, 0)}, r"at least 1, got 10 and \(1, 0\)"),
    ],
)
def test_mistakes_are_named(image, masks, options, message):
    with pytest.raises(ValueError, match=message):
        pamr(torch.zeros(image), torch.zeros(masks), **options)


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"floating type, got torch.uint8 and torch.float32"):
        pamr(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 2, 8, 8))
