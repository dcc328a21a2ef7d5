"""Pixel-to-prototype contrast (InfoNCE) with negatives shared by the queries of a class, and separation."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin.distributed import BatchShare

TILE = 64
CHUNK = 2**14  # keys of the tiles that are contrasted at once
EPSILON = 1e-12  # smallest length


class Tiles(NamedTuple):
    """Rows grouped by class into tiles of `TILE`, so that a tile has one class and shapes are static.

    Attributes:
        rows: [T, TILE] int64 row of each slot, N where the slot is empty.
        classes: [T] int64 class of each tile; arbitrary for tiles without rows.
        counts: [C] int64, the rows of each class in the whole batch.
    """

    rows: Tensor
    classes: Tensor
    counts: Tensor


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
def group_by_class(classes: Tensor, num_classes: int, share: BatchShare = BatchShare()) -> Tiles:
    """Group rows by class into tiles.

    Where the host cannot read values without waiting, the number of tiles depends only on shapes. Elsewhere,
    only the tiles that hold rows are kept.

    Args:
        classes: [N] int64 in 0..C-1 for the rows that take part, C for the others.
        num_classes: C.
        share: of the batch that the rows are from.
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
    return Tiles(rows, tile_class.clamp_max(num_classes - 1), share.total(count[:-1]))


def info_nce(
    queries: Tensor,
    tiles: Tiles,
    prototypes: Tensor,
    negatives: Tensor,
    valid: Tensor,
    temperature: float = 0.5,
    share: BatchShare = BatchShare(),
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
        share: of the batch that the rows are from.

    Returns:
        The `Contrast`; zeros, connected to the graph, if no class contributes. Where processes share the
        batch, the mean of their values is that of the whole batch.
    """
    num_classes = len(prototypes)
    keys = F.normalize(torch.cat([prototypes[:, None], negatives], 1).detach(), dim=-1)
    with_gradient = torch.is_grad_enabled() and queries.requires_grad
    loss, positive, negative = _ChunkedContrast.apply(
        queries, tiles.rows, tiles.classes, keys, temperature, with_gradient
    )
    taken = (tiles.rows < len(queries)) & valid[tiles.classes][:, None]
    values = (torch.stack([loss, positive, negative]) * taken).sum(-1)
    sums = values.new_zeros(3, num_classes).index_add(1, tiles.classes, values)
    count = tiles.counts * valid
    per_class = sums / count.clamp_min(1)
    classes = (count > 0).sum()
    loss, positive, negative = share.processes * per_class.sum(1) / classes.clamp_min(1)
    return Contrast(loss, positive.detach(), negative.detach(), classes)


class _ChunkedContrast(torch.autograd.Function):
    """The loss of each slot, a chunk of tiles at a time: no tensor has queries times negatives values.

    The gradient is computed with the loss, and takes as many values as the queries.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        rows: Tensor,
        classes: Tensor,
        keys: Tensor,
        temperature: float,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the cosine of the positive and the mean cosine of the negatives: [T, TILE] each.

        Args:
            ctx: keeps the gradient.
            queries: [N, D].
            rows: [T, TILE] of `Tiles`.
            classes: [T] of `Tiles`.
            keys: [C, 1+n, D] of unit length, the positive first.
            temperature: tau.
            with_gradient: whether there will be a backward pass.
        """
        losses, positives, negatives, gradients = [], [], [], [queries[:0]]
        rows = rows.clamp_max(len(queries) - 1)
        for start in range(0, len(rows), chunk := max(1, CHUNK // keys.shape[1])):
            slots = queries[rows[start : start + chunk]]
            length = slots.norm(dim=-1, keepdim=True).clamp_min(EPSILON)
            slots = slots / length
            own = keys[classes[start : start + chunk]]
            similarity = torch.bmm(slots, own.transpose(1, 2))
            positives.append(similarity[..., 0].clone())
            negatives.append(similarity[..., 1:].mean(-1))
            logits = similarity.div_(temperature)
            total = logits.logsumexp(-1, keepdim=True)
            losses.append((total - logits[..., :1])[..., 0])
            if with_gradient:
                shares = logits.sub_(total).exp_()
                shares[..., 0] -= 1
                gradient = torch.bmm(shares, own).div_(temperature)
                # Through the division by the length.
                along = (gradient * slots).sum(-1, keepdim=True)
                gradients.append(gradient.sub_(slots.mul_(along)).div_(length).flatten(0, 1))
        ctx.save_for_backward(rows.flatten(), torch.cat(gradients))
        ctx.number = len(queries)
        found = [
            torch.cat(values) if values else rows.to(queries) for values in (losses, positives, negatives)
        ]
        ctx.mark_non_differentiable(*found[1:])
        return found[0], found[1], found[2]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the queries, of that of the loss [T, TILE]."""
        rows, gradients = ctx.saved_tensors
        weighted = gradients * outer[0].flatten()[:, None]
        found = gradients.new_zeros(ctx.number, gradients.shape[1]).index_add_(0, rows, weighted)
        return found, None, None, None, None, None


def separation(foreground: Tensor, background: Tensor, eps: float = 1e-8) -> Tensor:
    """Mean cosine similarity of two projections at the same pixel, at a third of the cost of torch's own.

    Args:
        foreground: [B, D, h, w].
        background: [B, D, h, w].
        eps: lower bound of the product of the two norms.
    """
    products = foreground.square().sum(1) * background.square().sum(1)
    return ((foreground * background).sum(1) * products.clamp_min(eps**2).rsqrt()).mean()
