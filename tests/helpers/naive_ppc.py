"""PPC's losses as plain loops, written from the method's description: the reference of the tests."""

import math

import torch
from torch import Tensor

EPSILON = 1e-5


def max_normalise(maps: Tensor) -> Tensor:
    """The positive part of each map, scaled to [0, 1]."""
    result = []
    for image in maps:
        for plane in image:
            positive = plane.clamp_min(0)
            low, high = positive.min(), positive.max()
            result.append((positive - low - EPSILON).clamp_min(0) / (high - low + EPSILON))
    return torch.stack(result).view_as(maps)


def strongest(cam: Tensor) -> Tensor:
    """The background 1 - max and the winning class's map, pixel by pixel: [C, h, w] -> [1+C, h, w]."""
    classes, height, width = cam.shape
    result = torch.zeros(1 + classes, height, width, dtype=cam.dtype)
    for u in range(height):
        for v in range(width):
            best = max(range(classes), key=lambda c: cam[c, u, v].item())
            result[0, u, v] = 1 - cam[best, u, v]
            result[1 + best, u, v] = cam[best, u, v]
    return result


def regularisation(cams: tuple[Tensor, Tensor], refined: tuple[Tensor, Tensor], share: float) -> Tensor:
    """ECR: the largest differences of each image between target and refined map, mean, summed over views."""
    total = torch.zeros((), dtype=cams[0].dtype)
    for cam, own in ((cams[1], refined[0]), (cams[0], refined[1])):
        means = []
        for i in range(len(cam)):
            differences = sorted(
                (strongest(cam[i].detach()) - own[i]).abs().flatten(), key=lambda d: -d.item()
            )
            kept = differences[: int(len(differences) * share)]
            means.append(sum(kept) / len(kept))
        total = total + sum(means) / len(means)
    return total


def min_pooling(maps: Tensor) -> Tensor:
    """The lowest quarter of each image's pixels, by their strongest class."""
    means = []
    for image in maps:
        pixels = sorted((max(pixel) for pixel in image.flatten(1).t()), key=lambda p: p.item())
        kept = pixels[: len(pixels) // 4]
        means.append(sum(value.clamp_min(0) for value in kept) / len(kept))
    return sum(means) / len(means)


def saliency(logits: Tensor, target: Tensor, label: Tensor, overlap: float, blend: float) -> Tensor:
    """Foreground and inverted background blended, against the saliency map, pixel by pixel."""
    batch, channels, height, width = logits.shape
    errors = []
    for i in range(batch):
        maps = torch.zeros_like(logits[i])
        for u in range(height):
            for v in range(width):
                exponentials = [logits[i, c, u, v].exp() for c in range(channels)]
                for c in range(channels):
                    maps[c, u, v] = exponentials[c] / sum(exponentials)
        foreground, background = [], [0]
        for c in range(1, channels):
            if label[i, c - 1]:
                claimed = maps[c].detach().round()
                salient = target[i].round()
                share = (claimed * salient).sum() / (claimed + 1e-4 / claimed.numel()).sum()
                (foreground if share > overlap else background).append(c)
        for u in range(height):
            for v in range(width):
                high = sum(maps[c, u, v] for c in foreground)
                low = sum(maps[c, u, v] for c in background)
                errors.append((blend * high + (1 - blend) * (1 - low) - target[i, u, v]) ** 2)
    return sum(errors) / len(errors)


def rows(maps: Tensor) -> Tensor:
    """[B, D, h, w] -> [B*h*w, D], one pixel at a time."""
    return torch.stack(
        [image[:, u, v] for image in maps for u in range(maps.shape[2]) for v in range(maps.shape[3])]
    )


def prototypes(
    projection: Tensor, scores: Tensor, label: Tensor, background: float, topk: int
) -> tuple[list[int], dict[int, Tensor]]:
    """Pseudo labels of all pixels and a prototype for each class that has some, of unit length."""
    normalised = torch.zeros(len(scores), scores.shape[1], *scores.shape[2:], dtype=scores.dtype)
    for i, present in enumerate(label):
        for c in present.nonzero()[:, 0].tolist():
            plane = scores[i, c].clamp_min(0)
            normalised[i, c] = (plane - plane.min()) / (plane.max() - plane.min())
    pixels, values = rows(projection.detach()), rows(normalised)
    labels = []
    for value in values:
        best = max(range(len(value)), key=lambda c: value[c].item())
        labels.append(best + 1 if value[best] > background else 0)
    result = {}
    for c in sorted(set(labels)):
        if c == 0:
            chosen = [n for n, found in enumerate(labels) if found == 0]
            weights = [1.0] * len(chosen)
        else:
            chosen = sorted(range(len(values)), key=lambda n: -values[n, c - 1].item())[:topk]
            weights = [values[n, c - 1] for n in chosen]
        vector = sum(weight * pixels[n] for weight, n in zip(weights, chosen, strict=True))
        result[c] = vector / vector.square().sum().sqrt()
    return labels, result


def cosines(pixel: Tensor, keys: dict[int, Tensor]) -> dict[int, Tensor]:
    """Cosine of a pixel with each prototype."""
    return {c: (pixel * key).sum() / pixel.square().sum().sqrt() for c, key in keys.items()}


def prototype_contrast(pixels: Tensor, labels: list[int], keys: dict[int, Tensor], tau: float) -> Tensor:
    """The mean over pixels whose class has a prototype."""
    losses = []
    for pixel, label in zip(pixels, labels, strict=True):
        if label in keys:
            similarity = cosines(pixel, keys)
            denominator = sum((value / tau).exp() for value in similarity.values())
            losses.append(-((similarity[label] / tau).exp() / denominator).log())
    return sum(losses) / len(losses)


def sampled(similarity: list[float], noise: list[float]) -> list[int]:
    """The pixels of one label that hard pixel sampling takes, some of them twice."""
    n = len(similarity)
    ascending = sorted(range(n), key=lambda p: similarity[p])
    lowest = ascending[: math.floor(n * 0.6 + 1e-9)]
    return sorted(range(n), key=lambda p: noise[p])[: n // 2] + lowest[len(lowest) - n // 2 :]


def intra_view(
    pixels: Tensor,
    labels: list[int],
    keys: dict[int, Tensor],
    noise: Tensor,
    ranks: tuple[int, int],
    tau: float,
) -> Tensor:
    """Semi-hard prototypes of the ranks first to last, hard pixels of each label."""
    per_class = []
    for c in sorted(set(labels)):
        own = [n for n, label in enumerate(labels) if label == c]
        if len(own) < 2:
            continue
        similarities = [cosines(pixels[n], keys) for n in own]
        taken = sampled([s[c].item() for s in similarities], [noise[n].item() for n in own])
        losses = []
        for p in taken:
            ranked = sorted(similarities[p], key=lambda k: -similarities[p][k].item())
            positive = (similarities[p][c] / tau).exp()
            others = sum((similarities[p][k] / tau).exp() for k in ranked[ranks[0] - 1 : ranks[1]])
            losses.append(-(positive / (positive + others)).log())
        per_class.append(sum(losses) / len(losses))
    return sum(per_class) / len(per_class)
