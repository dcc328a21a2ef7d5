"""Sampling of negatives: by the semantic graph from pixels of other classes, and from the bank."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.functional.counter_random import Generator, uniform


@torch.no_grad()
def semantic_graph(prototypes: Tensor, present: Tensor, temperature: float = 0.5) -> Tensor:
    """Probability with which each class serves as a negative of each other class.

    Args:
        prototypes: [C, D].
        present: [C] bool.
        temperature: of the softmax over the cosine similarities of the prototypes.

    Returns:
        [C, C]; row c is a distribution over the other present classes, and 0 where c is absent or alone.
    """
    unit = F.normalize(prototypes, dim=-1)
    pairs = present & present[:, None]
    pairs = pairs & ~torch.eye(len(present), dtype=torch.bool, device=present.device)
    logits = (unit @ unit.t() / temperature).masked_fill(~pairs, torch.finfo(unit.dtype).min)
    return logits.softmax(1) * pairs


@torch.no_grad()
def sample_pixels(
    graph: Tensor, pseudo_labels: Tensor, num_negatives: int, generator: Generator | None = None
) -> Tensor:
    """Active sampling: choose a class by the semantic graph, then one of its pixels uniformly.

    Args:
        graph: [C, C] of `semantic_graph`.
        pseudo_labels: [N] int64, 0 = background.
        num_negatives: n, samples with replacement for each class.
        generator: source of randomness, on the device of `graph`.

    Returns:
        [C, n] int64 pixel indices; arbitrary for classes without other present classes.
    """
    classes, pixels = len(graph), len(pseudo_labels)
    by_class, by_pixel = uniform((2, classes, num_negatives), graph.device, generator).double()
    cumulative = graph.double().cumsum(1)
    drawn = torch.searchsorted(cumulative, by_class * cumulative[:, -1:], right=True)
    # Rounding may point past the last class with a probability above 0.
    last = classes - 1 - (graph > 0).flip(1).to(torch.int8).argmax(1, keepdim=True)
    drawn = torch.minimum(drawn, last)
    order = pseudo_labels.argsort(stable=True)
    count = torch.zeros(classes + 1, dtype=torch.int64, device=graph.device)
    count.scatter_add_(0, pseudo_labels, torch.ones_like(pseudo_labels))
    start = count.cumsum(0) - count
    offset = (by_pixel * count[drawn + 1]).long()
    return order[(start[drawn + 1] + offset).clamp_max(pixels - 1)]


@torch.no_grad()
def sample_bank(
    fill: Tensor, num_classes: int, num_negatives: int, generator: Generator | None = None
) -> Tensor:
    """Sample rows of the bank uniformly, with replacement, for each class.

    Args:
        fill: 0-d int64, rows in the bank.
        num_classes: C.
        num_negatives: n.
        generator: source of randomness, on the device of `fill`.

    Returns:
        [C, n] int64 rows, all below `fill` (row 0 of an empty bank).
    """
    return (uniform((num_classes, num_negatives), fill.device, generator, torch.float64) * fill).long()
