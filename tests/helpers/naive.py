"""FBR's terms as plain double loops, written from the method's description: the reference of the tests."""

import math

import torch
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of two vectors, 0 where one of them is 0."""
    if not a.any() or not b.any():
        return 0 * (a * b).sum()
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


def min_max(values: Tensor) -> Tensor:
    """Scale a map to [0, 1]."""
    return (values - values.min()) / (values.max() - values.min())


def maps(scores: Tensor, labels: Tensor, background: float) -> tuple[Tensor, Tensor]:
    """Normalised maps [B, 1+C, h, w] and entropies [B, h, w], one pixel and class at a time."""
    batch, classes = labels.shape
    height, width = scores.shape[-2:]
    normalised = torch.zeros(batch, 1 + classes, height, width)
    entropy = torch.zeros(batch, height, width)
    for i in range(batch):
        present = [0, *(c + 1 for c in range(classes) if labels[i, c])]
        if scores.shape[1] == classes + 1:
            logits = scores[i]
            probability = torch.zeros(1 + classes, height, width)
            for u in range(height):
                for v in range(width):
                    total = sum(math.exp(logits[c, u, v]) for c in present)
                    for c in present:
                        probability[c, u, v] = math.exp(logits[c, u, v]) / total
            for c in present:
                normalised[i, c] = min_max(probability[c])
        else:
            normalised[i, 0] = background
            for c in present[1:]:
                normalised[i, c] = min_max(scores[i, c - 1].clamp_min(0))
            logits = normalised[i]
        for u in range(height):
            for v in range(width):
                total = sum(math.exp(logits[c, u, v]) for c in present)
                for c in present:
                    p = math.exp(logits[c, u, v]) / total
                    entropy[i, u, v] -= p * math.log(p)
    return normalised, entropy


def hard(
    normalised: Tensor, entropy: Tensor, pseudo: Tensor, q_conf: float, q_ent: float, floor: float
) -> Tensor:
    """Hard pixels [B, h, w]."""
    result = torch.zeros_like(pseudo, dtype=torch.bool)
    for i in range(len(pseudo)):
        limit = entropy[i].flatten().quantile(q_ent)
        for c in range(1, normalised.shape[1]):
            own = pseudo[i] == c
            scores = sorted(s for s in normalised[i, c][own].tolist() if s > floor)
            threshold = scores[math.floor(len(scores) * q_conf)] if scores else math.inf
            for u, v in own.nonzero().tolist():
                sure = normalised[i, c, u, v] > threshold or entropy[i, u, v] <= limit
                result[i, u, v] = not sure
    return result


def prototypes(features: Tensor, normalised: Tensor, pseudo: Tensor, topk: int) -> dict[int, Tensor]:
    """Score-weighted mean features of each present class's best positions; the last ones in a tie share."""
    rows = features.detach().permute(0, 2, 3, 1).flatten(0, 2)
    result = {}
    for c in range(1, normalised.shape[1]):
        if not (pseudo == c).any():
            continue
        scores = normalised[:, c].flatten()
        best = sorted(scores.tolist(), reverse=True)[:topk]
        left = best.count(best[-1]) / scores.tolist().count(best[-1])
        weights = [s * left if s == best[-1] else s * (s > best[-1]) for s in scores.tolist()]
        result[c] = sum(w * row for w, row in zip(weights, rows, strict=True)) / sum(weights)
    return result


def class_probabilities(protos: dict[int, Tensor], classes: int, tau: float, uniform: bool) -> Tensor:
    """Probability [C, C] with which each other present class serves as the negative of a class."""
    result = torch.zeros(classes, classes)
    for c in protos:
        others = [j for j in protos if j != c]
        weights = [1.0 if uniform else math.exp(cosine(protos[c], protos[j]) / tau) for j in others]
        for j, weight in zip(others, weights, strict=True):
            result[c - 1, j - 1] = weight / sum(weights)
    return result


def background_rows(background: Tensor, pseudo: Tensor, mean: bool) -> tuple[list[Tensor], list[int]]:
    """The background pixels of each image, or their mean, and which image each is of."""
    rows, images = [], []
    for i in range(len(pseudo)):
        own = [background[i, :, u, v] for u, v in (pseudo[i] == 0).nonzero().tolist()]
        own = [sum(own) / len(own)] if mean and own else own
        rows += own
        images += [i] * len(own)
    return rows, images


def contrast(
    features: Tensor,
    queries: Tensor,
    pseudo: Tensor,
    protos: dict[int, Tensor],
    negatives: dict[int, Tensor],
    tau: float,
) -> Tensor:
    """Mean over queries, then over the classes that have queries and negatives."""
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    labels, chosen = pseudo.flatten(), queries.flatten()
    per_class = []
    for c, keys in negatives.items():
        losses = []
        for n in range(len(rows)):
            if chosen[n] and labels[n] == c:
                positive = torch.exp(cosine(rows[n], protos[c]) / tau)
                denominator = positive + sum(torch.exp(cosine(rows[n], key) / tau) for key in keys)
                losses.append(-torch.log(positive / denominator))
        if losses:
            per_class.append(sum(losses) / len(losses))
    return sum(per_class) / len(per_class)
