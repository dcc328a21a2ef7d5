"""What a baseline hands to FBR, and what FBR hands back."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass
class DenseView:
    """The dense outputs of a baseline for one view of a batch.

    Args:
        features: [B, L, h, w] encoder output, with gradient.
        scores: class score maps on the grid of `features`: logits [B, 1+C, h, w] when the background is a
            map of its own (channel 0), or class activation maps before ReLU [B, C, h, w] when the background
            is a constant score.
        labels: [B, C] image labels in {0, 1}.
        seg_scores: other scores for the target of the background segmentation loss, in either form and on
            their own grid; None takes `scores`.
        levels: more feature levels [B, L_j, h_j, w_j], for class-aware use.
    """

    features: Tensor
    scores: Tensor
    labels: Tensor
    seg_scores: Tensor | None = None
    levels: tuple[Tensor, ...] = ()


class FBRTerms(NamedTuple):
    """The terms of FBR for one view; `fg`, `bg`, `seg`, `sim` and `total` carry gradient.

    Attributes:
        fg: 0-d, intra-foreground contrast, unweighted.
        bg: 0-d, foreground-to-background contrast, unweighted.
        seg: 0-d, background segmentation loss, unweighted.
        sim: 0-d, mean cosine similarity of the two projections, unweighted.
        total: 0-d, the weighted sum; 0 with zero gradients in a step whose features are not finite.
        num_queries: 0-d, hard pixels that served as queries.
        bank_fill: 0-d, rows in the memory bank.
        positive_similarity: 0-d, mean cosine of queries and their class prototype.
        negative_similarity: 0-d, mean cosine of queries and their negatives of both contrasts.
        finite: 0-d bool, False where NaN or infinite values made this step's terms be skipped.
        pseudo_labels: [B, h, w] int64, 0 = background.
        assignments: [B, h, w] int64, the NROI of each background pixel, -1 elsewhere.
        graph: [C, C] semantic graph: row c has the probabilities with which negatives of c are drawn.
    """

    fg: Tensor
    bg: Tensor
    seg: Tensor
    sim: Tensor
    total: Tensor
    num_queries: Tensor
    bank_fill: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor
    finite: Tensor
    pseudo_labels: Tensor
    assignments: Tensor
    graph: Tensor


SCALARS = (
    "fg",
    "bg",
    "seg",
    "sim",
    "total",
    "num_queries",
    "bank_fill",
    "positive_similarity",
    "negative_similarity",
)
"""The fields of `FBRTerms` that are logged."""
