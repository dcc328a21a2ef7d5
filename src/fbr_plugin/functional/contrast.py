"""Pixel-to-prototype contrast (InfoNCE) with negatives shared by the queries of a class, and separation."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 64


class Tiles(NamedTuple):
    """Rows grouped by class into tiles of `TILE`, so that a tile has one class and shapes are static.

    Attributes:
        rows: [T, TILE] int64 row of each slot, N where the slot is empty.
        classes: [T] int64 class of each tile; arbitrary for tiles without rows.
    """

    rows: Tensor
    classes: Tensor


class Contrast(NamedTuple):
    """The result of `info_nce`.

    Attributes:
        loss: 0-d, with gradient to the queries.
        positive_similarity: 0-d, mean cosine of the queries and their prototype, detached.
        negative_similarity: 0-d, mean cosine of the queries and their negatives, detached.
        num_classes: 0-d int64, classes that contribute.
    """

    loss: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor
    num_classes: Tensor


def readable(values: Tensor) -> bool:
    """Whether the host may read values: on the CPU, outside of `torch.compile`. Elsewhere it would wait."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


@torch.no_grad()
def group_by_class(classes: Tensor, num_classes: int) -> Tiles:
    """Group rows by class into tiles.

    Where the host cannot read values without waiting, the number of tiles depends only on shapes. Elsewhere,
    only the tiles that hold rows are kept.

    Args:
        classes: [N] int64 in 0..C-1 for the rows that take part, C for the others.
        num_classes: C.
    """
    count = torch.zeros(num_classes + 1, dtype=torch.int64, device=classes.device)
    count.scatter_add_(0, classes, torch.ones_like(classes))
    start = count.cumsum(0) - count
    tiles = (count[:-1] + TILE - 1) // TILE
    tile_end = tiles.cumsum(0)
    order = classes.argsort(stable=True)
    sorted_classes = classes[order]
    offset = torch.arange(len(classes), device=classes.device) - start[sorted_classes]
    capacity = len(classes) // TILE + num_classes
    if readable(classes):
        capacity = int(tile_end[-1])
    # Rows that do not take part go to a slot behind the tiles.
    first_slot = F.pad((tile_end - tiles) * TILE, (0, 1), value=capacity * TILE)
    slot = (first_slot[sorted_classes] + offset).clamp_max(capacity * TILE)
    rows = torch.full((capacity * TILE + 1,), len(classes), device=classes.device)
    rows = rows.scatter(0, slot, order)[:-1].view(capacity, TILE)
    tile_class = torch.searchsorted(tile_end, torch.arange(capacity, device=classes.device), right=True)
    return Tiles(rows, tile_class.clamp_max(num_classes - 1))


def info_nce(
    queries: Tensor,
    tiles: Tiles,
    prototypes: Tensor,
    negatives: Tensor,
    valid: Tensor,
    temperature: float = 0.5,
) -> Contrast:
    """Contrast each query with its class prototype against the negatives of its class.

    For a query q of class c: -log of exp(cos(q, p_c)/tau) over the sum of that and of exp(cos(q, n)/tau) for
    all negatives n of c; the mean over the queries of a class, then over the classes that have queries.
    [FBR] Yin et al., IEEE TCSVT 2024, arXiv 2406.15755. (Released code: XuYin94/FBR at fd1aeb8, whose cosine
    is over the wrong axis and whose queries are detached.)

    Args:
        queries: [N, D], with gradient.
        tiles: of `group_by_class`: which rows are queries, by class.
        prototypes: [C, D], no gradient.
        negatives: [C, n, D], no gradient.
        valid: [C] bool, classes that may contribute.
        temperature: tau.

    Returns:
        The `Contrast`; zeros, connected to the graph, if no class contributes.
    """
    num_classes = len(prototypes)
    rows = tiles.rows.flatten().clamp_max(len(queries) - 1)
    slots = F.normalize(queries.index_select(0, rows), dim=-1).unflatten(0, tiles.rows.shape)
    keys = torch.cat([prototypes[:, None], negatives], 1).detach()
    keys = F.normalize(keys, dim=-1)[tiles.classes]
    similarity = torch.bmm(slots, keys.transpose(1, 2))
    logits = similarity / temperature
    loss = logits.logsumexp(-1) - logits[..., 0]
    taken = (tiles.rows < len(queries)) & valid[tiles.classes][:, None]
    values = torch.stack([loss, similarity[..., 0].detach(), similarity[..., 1:].detach().mean(-1)])
    values = (values * taken).sum(-1)
    sums = values.new_zeros(3, num_classes).index_add(1, tiles.classes, values)
    count = values.new_zeros(num_classes).index_add(0, tiles.classes, taken.sum(1).to(values.dtype))
    per_class = sums / count.clamp_min(1)
    classes = (count > 0).sum()
    loss, positive, negative = per_class.sum(1) / classes.clamp_min(1)
    return Contrast(loss, positive.detach(), negative.detach(), classes)


def separation(foreground: Tensor, background: Tensor, eps: float = 1e-8) -> Tensor:
    """Mean cosine similarity of two projections at the same pixel, at a third of the cost of torch's own.

    Args:
        foreground: [B, D, h, w].
        background: [B, D, h, w].
        eps: lower bound of the product of the two norms.
    """
    products = foreground.square().sum(1) * background.square().sum(1)
    return ((foreground * background).sum(1) * products.clamp_min(eps**2).rsqrt()).mean()
