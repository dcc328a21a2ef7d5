"""FBR as one would write it down: the reference of the benchmark of the loss."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from fbr_plugin import DenseView, FBRLoss


class Terms(NamedTuple):
    """The part of `FBRTerms` that is compared; 0-d each."""

    fg: Tensor
    bg: Tensor
    seg: Tensor
    sim: Tensor
    total: Tensor
    num_queries: Tensor


class Straightforward(nn.Module):
    """The terms of FBR for activation maps: image by image, class by class, negatives query by query.

    Args:
        loss: gives the settings, the weights and the contents of the bank.
    """

    def __init__(self, loss: FBRLoss) -> None:
        super().__init__()
        self.config = loss.config
        dim, channels = loss.heads.foreground.shape[:2]
        self.foreground = nn.Conv2d(channels, dim, 1, bias=False)
        self.background = nn.Conv2d(channels, dim, 1, bias=False)
        last = nn.Conv2d(dim, 1, 1)
        self.classifier = nn.Sequential(nn.BatchNorm2d(dim), nn.ReLU(), nn.Dropout(0.5), last)
        with torch.no_grad():
            self.foreground.weight.copy_(loss.heads.foreground)
            self.background.weight.copy_(loss.heads.background)
            last.weight.copy_(loss.classifier.weight)
            nn.init.zeros_(last.get_parameter("bias"))
        self.bank = loss.banks[0].get_buffer("nrois")[: self.config.bank_size].clone()
        self.pointer = 0

    def forward(self, view: DenseView) -> Terms:
        """The terms of a view."""
        config = self.config
        foreground = self.foreground(view.features).relu()
        before_relu = self.background(view.features)
        background = before_relu.relu()
        maps, entropy = self.maps(view)
        pseudo = maps.argmax(1)
        for image in range(len(pseudo)):
            self.remember(background[image].detach()[:, pseudo[image] == 0].t())
        hard = self.hard_pixels(maps, entropy, pseudo).flatten()
        rows, labels = foreground.permute(0, 2, 3, 1).flatten(0, 2), pseudo.flatten()
        prototypes, pixels = {}, {}
        for c in labels.unique().tolist():
            if c > 0:
                weight, index = maps[:, c].flatten().topk(maps[0, 0].numel() // config.topk_divisor)
                prototypes[c] = (weight[:, None] * rows[index].detach()).sum(0) / weight.sum()
                pixels[c] = (labels == c).nonzero()[:, 0]
        inter, intra = [], []
        for c, prototype in prototypes.items():
            queries = rows[hard & (labels == c)]
            if len(queries) == 0:
                continue
            drawn = torch.randint(len(self.bank), (len(queries), config.num_negatives))
            inter.append(self.contrast(queries, prototype, self.bank[drawn]))
            drawn = self.draw_pixels(len(queries), c, prototypes, pixels)
            intra.append(self.contrast(queries, prototype, rows.detach()[drawn]))
        target = torch.zeros_like(entropy)
        for image, label in enumerate(view.labels):
            cams = view.scores[image, label > 0].relu()
            target[image] = ((cams / cams.amax((1, 2), keepdim=True)).sum(0) < config.seg_threshold).float()
        terms = (
            torch.stack(intra).mean(),
            torch.stack(inter).mean(),
            F.binary_cross_entropy_with_logits(self.classifier(before_relu)[:, 0], target),
            F.cosine_similarity(foreground, background).mean(),
        )
        weights = (config.weight_fg, config.weight_bg, config.weight_seg, config.weight_sim)
        total = torch.stack([weight * term for weight, term in zip(weights, terms, strict=True)]).sum()
        return Terms(*terms, total, hard.sum())

    def maps(self, view: DenseView) -> tuple[Tensor, Tensor]:
        """Normalised maps [B, 1+C, h, w], background first, and entropies [B, h, w]."""
        batch, classes, height, width = view.scores.shape
        maps = torch.zeros(batch, 1 + classes, height, width)
        maps[:, 0] = self.config.background_score
        entropy = torch.zeros(batch, height, width)
        for image in range(batch):
            present = (view.labels[image].nonzero()[:, 0] + 1).tolist()
            for c in present:
                cam = view.scores[image, c - 1].relu()
                maps[image, c] = (cam - cam.min()) / (cam.max() - cam.min())
            probability = maps[image, [0, *present]].softmax(0)
            entropy[image] = -(probability * probability.log()).sum(0)
        return maps, entropy

    def hard_pixels(self, maps: Tensor, entropy: Tensor, pseudo: Tensor) -> Tensor:
        """Pixels [B, h, w] of a class that are neither confident nor of low entropy."""
        config = self.config
        hard = torch.zeros_like(pseudo, dtype=torch.bool)
        for image in range(len(pseudo)):
            limit = entropy[image].quantile(config.entropy_quantile)
            for c in pseudo[image].unique().tolist():
                if c == 0:
                    continue
                own, score = pseudo[image] == c, maps[image, c]
                ordered = score[own & (score > config.score_floor)].sort().values
                confident = score > ordered[int(len(ordered) * config.confidence_quantile)]
                hard[image] |= own & ~confident & (entropy[image] > limit)
        return hard

    def remember(self, points: Tensor) -> None:
        """Cluster the background points [N, D] of an image and put the centroids into the bank."""
        if len(points) > self.config.num_clusters:
            clusters = KMeans(self.config.num_clusters).fit(points.numpy())
            points = torch.from_numpy(clusters.cluster_centers_)
        rows = (self.pointer + torch.arange(len(points))) % len(self.bank)
        self.bank[rows] = points
        self.pointer = (self.pointer + len(points)) % len(self.bank)

    def draw_pixels(
        self, queries: int, own: int, prototypes: dict[int, Tensor], pixels: dict[int, Tensor]
    ) -> Tensor:
        """Pixels [queries, N_neg] of other classes: for each query classes by similarity, then pixels."""
        others = [c for c in prototypes if c != own]
        similarity = [F.cosine_similarity(prototypes[own], prototypes[c], dim=0) for c in others]
        probability = (torch.stack(similarity) / self.config.temperature).softmax(0)
        drawn = []
        for _ in range(queries):
            classes = probability.multinomial(self.config.num_negatives, replacement=True)
            counts = classes.bincount(minlength=len(others)).tolist()
            parts = [
                pixels[c][torch.randint(len(pixels[c]), (count,))]
                for c, count in zip(others, counts, strict=True)
            ]
            drawn.append(torch.cat(parts))
        return torch.stack(drawn)

    def contrast(self, queries: Tensor, prototype: Tensor, negatives: Tensor) -> Tensor:
        """Mean contrast of queries [n, D] with a prototype [D] against negatives [n, N_neg, D]."""
        keys = torch.cat([prototype.expand(len(queries), 1, -1), negatives], 1)
        logits = self.cosine(queries, keys) / self.config.temperature
        return F.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64))

    def cosine(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Cosine similarities [n, m] of queries [n, D] with their keys [n, m, D]."""
        return F.cosine_similarity(queries[:, None], keys, dim=-1)


class BatchedProducts(Straightforward):
    """The same, with less memory traffic in its cosines."""

    def cosine(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Cosine similarities [n, m] of queries [n, D] with their keys [n, m, D]."""
        return torch.bmm(F.normalize(keys, dim=-1), F.normalize(queries, dim=-1)[..., None])[..., 0]
