"""How time and memory of our losses grow with each size."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import interpolate

from benchmarks.speed.timing import growth
from fbr_plugin import DenseView, FBRConfig, FBRLoss, ViewShape
from fbr_plugin.modules import MemoryBank

#: The sizes at which one varies, by its name in METHOD: images, pixels of the grid, classes and so on.
BASE = {
    "images": 4,
    "pixels": 1024,
    "classes": 20,
    "clusters": 8,
    "bank": 50_000,
    "negatives": 256,
}
RANGES = {
    "images": (2, 4, 8, 16, 32),
    "pixels": (256, 576, 1024, 2304, 4096),
    "classes": (5, 10, 20, 40, 80),
    "clusters": (2, 4, 8, 16, 32),
    "bank": (10_000, 20_000, 40_000, 80_000, 160_000),
    "negatives": (64, 128, 256, 512, 1024),
}
CHANNELS = 128
PRESENT = 2  # classes of an image


def step(
    images: int, pixels: int, classes: int, clusters: int, bank: int, negatives: int
) -> Callable[[], Any]:
    """Forward and backward pass of FBR's losses, with a full bank."""
    torch.manual_seed(0)
    side = round(pixels**0.5)
    config = replace(FBRConfig.ppc(), num_clusters=clusters, bank_size=bank, num_negatives=negatives)
    loss = FBRLoss(ViewShape(CHANNELS, classes), config)
    filled = loss.banks[0]
    assert isinstance(filled, MemoryBank)
    rows = torch.randn(bank, config.dim).relu()
    filled.enqueue(rows, torch.zeros(bank, classes), torch.ones(bank, dtype=torch.bool))
    labels = torch.zeros(images, classes)
    for image in range(images):
        labels[image, [image * PRESENT % classes, (image * PRESENT + 1) % classes]] = 1
    features = interpolate(torch.randn(images, CHANNELS, 8, 8), (side, side), mode="bicubic")
    features = (features + 0.5 * torch.randn(features.shape)).relu().requires_grad_()
    scores = interpolate(torch.randn(images, classes, 5, 5), (side, side), mode="bicubic")
    view = DenseView(features, scores, labels)

    def run() -> None:
        for leaf in (features, *loss.parameters()):
            leaf.grad = None
        loss(view).total.backward()

    return run


def grown(quick: bool) -> dict[str, Any]:
    """The growth with each size; quick takes the smallest, the middle and the largest."""
    ranges = {name: sizes[:: 2 if quick else 1] for name, sizes in RANGES.items()}
    return growth(step, BASE, ranges)
