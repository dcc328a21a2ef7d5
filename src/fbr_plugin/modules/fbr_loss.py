"""FBR's loss: a `DenseView` of a baseline in, `FBRTerms` out."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbr_plugin import functional as fbr
from fbr_plugin.config import FBRConfig
from fbr_plugin.contract import DenseView, FBRTerms, ViewShape
from fbr_plugin.errors import WarnOnce
from fbr_plugin.modules.checks import check_view
from fbr_plugin.modules.heads import BackgroundClassifier, ProjectionHeads
from fbr_plugin.modules.memory_bank import MemoryBank
from fbr_plugin.modules.skipped_steps import SkippedSteps
from fbr_plugin.modules.step_random import StepRandom


class FBRLoss(StepRandom):
    """Fine-grained background representation as a loss.

    NROI contrast, intra-foreground contrast with active sampling, background segmentation loss and
    separation, after Yin et al., *Fine-grained Background Representation for Weakly Supervised Semantic
    Segmentation*, IEEE TCSVT 2024, arXiv 2406.15755. Departures from the released code (XuYin94/FBR at
    fd1aeb8) are listed in docs/fidelity.md. In training mode a call adds the view's NROIs to the memory bank;
    in evaluation mode it changes nothing.

    All randomness (initial weights, dropout, k-means, sampling) comes from generators of its own, seeded each
    step from the global seed at construction, a step counter, the view and the process: the global stream
    stays as it was, and a resumed run draws what the uninterrupted one would have drawn.

    With `global_batch`, N processes compute what one computes on the images of all: all values are equal on
    every process, and gradients averaged over the processes, as DDP does, are those of the one.

    Args:
        shape: sizes of the views; with `config.shared_bank` False each view has a bank of its own.
        config: settings; None takes `FBRConfig()`.
        global_batch: whether the loss is computed on the images of all processes.
    """

    def __init__(self, shape: ViewShape, config: FBRConfig | None = None, global_batch: bool = False) -> None:
        super().__init__(global_batch)
        self.shape = shape
        self.config = config or FBRConfig()
        dim, classes = self.config.dim, shape.num_classes
        generator = self.initial_generator()
        self.heads = ProjectionHeads(shape.channels, dim, generator)
        self.classifier = BackgroundClassifier(
            dim, generator=generator, fixed=self.config.released_heads, share=self.share
        )
        banks = 1 if self.config.shared_bank else shape.num_views
        self.banks = nn.ModuleList(MemoryBank(self.config.bank_size, dim, classes) for _ in range(banks))
        self.skipped = SkippedSteps("FBR's loss")
        self._no_gradient = WarnOnce()
        self._freeze_unused()

    def forward(self, view: DenseView, index: int = 0) -> FBRTerms:
        """The terms of one view.

        Args:
            view: the baseline's dense outputs.
            index: which view of the step this is; view 0 comes first and begins the step.

        Raises:
            ValueError: shapes that disagree with each other or with the constructor, or global batches of
                which the processes have different numbers of images.
        """
        check_view(view, self.shape, index)
        if self.training and torch.is_grad_enabled() and not view.features.requires_grad:
            self._no_gradient(
                "the features of a view carry no gradient, so FBR's losses do not train the network: take "
                "them from a call with gradient, not detached; capture(..., call=-1) takes the last"
            )
        config = self.config
        size = view.features.shape[-2:] if view.grid is None else view.grid
        coarse = partial(fbr.resize, size=size, align_corners=True)
        if not config.released_heads:
            view = replace(view, features=_resize_features(view.features, size), scores=coarse(view.scores))
        self.begin(index, len(view.features))
        generator = self.generator(index)
        *projections, finite = self.heads(view.features)
        with torch.autocast(view.features.device.type, enabled=False):
            # At least float32, whatever the precision of the baseline.
            own_foreground, own_background, before_relu = (
                z.to(torch.promote_types(z.dtype, torch.float32)) for z in projections
            )
            # Channels-last, so that the vectors of pixels are read in place.
            foreground = coarse(own_foreground).contiguous(memory_format=torch.channels_last)
            background = coarse(own_background)
            scores = coarse(view.scores).nan_to_num()
            maps = fbr.normalise_scores(scores, view.labels, config.background_score)
            pseudo_labels = maps.normalised.argmax(1)
            bank = cast(MemoryBank, self.banks[index % len(self.banks)])
            assignments = self._update(bank, background, pseudo_labels, view.labels, finite, generator)
            hard = fbr.hard_pixels(
                maps,
                pseudo_labels,
                confidence_quantile=config.confidence_quantile,
                entropy_quantile=config.entropy_quantile,
                score_floor=config.score_floor,
            )
            topk = max(1, pseudo_labels[0].numel() // config.topk_divisor)
            prototypes = fbr.class_prototypes(
                foreground.detach(), maps.normalised, pseudo_labels, topk, self.share
            )
            # At an infinite temperature all other classes are equally likely.
            temperature = config.temperature if config.sampling == "graph" else math.inf
            graph = fbr.semantic_graph(prototypes.vectors, prototypes.present, temperature)
            intra, inter, queries = self._contrasts(
                foreground, pseudo_labels, hard, prototypes.vectors, graph, bank, generator
            )
            before_relu = before_relu.to(self.classifier.weight.dtype)
            classified = self.classifier(before_relu, generator).to(own_foreground.dtype)
            seg = F.binary_cross_entropy_with_logits(classified, self._seg_target(view))
            apart = self.classifier.normalise(before_relu) if config.released_heads else own_background
            sim = fbr.separation(own_foreground, apart.to(own_foreground.dtype))
        fg, bg, seg, sim, positive, negative = self.share.mean(
            intra.loss,
            inter.loss,
            seg,
            sim,
            intra.positive_similarity + inter.positive_similarity,
            intra.negative_similarity + inter.negative_similarity,
        )
        terms = (fg, bg, seg, sim)
        weighted = [weight * term for weight, term in zip(self._weights(), terms, strict=True) if weight > 0]
        self.skipped(finite)
        contrasts = (intra.num_classes > 0).long() + (inter.num_classes > 0)
        return FBRTerms(
            *terms,
            total=sum(weighted, start=sim.new_zeros(())) * finite,
            num_queries=queries * finite,
            bank_fill=bank.fill.clone(),
            positive_similarity=positive / contrasts.clamp_min(1),
            negative_similarity=negative / contrasts.clamp_min(1),
            finite=finite,
            pseudo_labels=pseudo_labels,
            assignments=assignments,
            graph=graph,
            bank=bank.nrois[:-1],
        )

    def _weights(self) -> tuple[float, ...]:
        """The weights of the four terms, in the order of `FBRTerms`."""
        config = self.config
        return config.weight_fg, config.weight_bg, config.weight_seg, config.weight_sim

    def _update(
        self,
        bank: MemoryBank,
        background: Tensor,
        pseudo_labels: Tensor,
        labels: Tensor,
        finite: Tensor,
        generator: fbr.Generator,
    ) -> Tensor:
        """Cluster each image's background into NROIs and remember them; the NROI of each pixel [B, h, w].

        If the bank takes pixels, these are remembered instead, and the background of an image is one cluster.
        """
        rows, valid = _rows(background.detach()), pseudo_labels.flatten(1) == 0
        if self.config.bank_rows == "pixels":
            assignments = valid.long() - 1
        else:
            rows, valid, assignments = fbr.kmeans(
                rows,
                valid,
                self.config.num_clusters,
                iterations=self.config.kmeans_iterations,
                generator=generator,
                share=self.share,
            )
        if self.training:
            images = labels.repeat_interleave(rows.shape[1], 0)
            bank.enqueue(rows.flatten(0, 1), images, valid.flatten() & finite, len(labels), self.share)
        return assignments.view_as(pseudo_labels)

    def _contrasts(
        self,
        foreground: Tensor,
        pseudo_labels: Tensor,
        hard: Tensor,
        prototypes: Tensor,
        graph: Tensor,
        bank: MemoryBank,
        generator: fbr.Generator,
    ) -> tuple[fbr.Contrast, fbr.Contrast, Tensor]:
        """Contrast the hard pixels with pixels of other classes, and with NROIs of the bank; count them."""
        config, classes, share = self.config, self.shape.num_classes, self.share
        queries = _rows(foreground).flatten(0, 1)
        tiles = fbr.group_by_class(torch.where(hard, pseudo_labels - 1, classes).flatten(), classes, share)
        labels = share.gather(pseudo_labels).flatten()
        pixels = fbr.sample_pixels(graph, labels, config.num_negatives, generator)
        others = share.take(_rows(foreground), pixels)
        rows = fbr.sample_bank(bank.fill, classes, config.num_negatives, generator)
        # A class without others, an unfilled bank and the warm-up drop out by masks: shapes stay the same.
        active = self.step > config.warmup_steps
        filled = (bank.fill >= config.min_bank).expand(classes)
        remembered = bank.rows(rows).to(queries.dtype)
        contrast = partial(
            fbr.info_nce, queries, tiles, prototypes, temperature=config.temperature, share=share
        )
        intra, inter = contrast(others, graph.any(1) & active), contrast(remembered, filled & active)
        return intra, inter, tiles.counts.sum()

    def _seg_target(self, view: DenseView) -> Tensor:
        """Background target [B, h, w] on the grid of the features."""
        scores = view.scores if view.seg_scores is None else view.seg_scores
        scores = scores.detach().nan_to_num()
        grid = view.features.shape[-2:]
        if scores.shape[-2:] != grid:
            scores = F.interpolate(scores, grid, mode="bilinear", align_corners=False)
        return fbr.background_target(scores, view.labels, self.config.seg_threshold)

    def _freeze_unused(self) -> None:
        """Parameters that only terms of weight 0 use need no gradient (DDP would wait for it)."""
        config = self.config
        self.heads.foreground.requires_grad_(config.weight_fg + config.weight_bg + config.weight_sim > 0)
        self.heads.background.requires_grad_(config.weight_seg + config.weight_sim > 0)
        if config.weight_seg == 0:
            self.classifier.requires_grad_(False)


def _rows(maps: Tensor) -> Tensor:
    """[B, D, h, w] -> [B, h*w, D]."""
    return maps.flatten(2).transpose(1, 2)


def _resize_features(features: Tensor, size: Sequence[int]) -> Tensor:
    """Resize features as `functional.resize` does with aligned corners, by two products with matrices.

    Of thousands of channels, one thread of a CPU would copy all to another memory format otherwise.
    """
    own = features.shape[-2:]
    if tuple(own) == tuple(size) or not features.is_contiguous():
        return fbr.resize(features, size, align_corners=True)
    with torch.autocast(features.device.type, enabled=False):
        rows, columns = (_interpolation(*sides, features) for sides in zip(own, size, strict=True))
        return rows.T @ (features @ columns)


def _interpolation(side: int, new: int, like: Tensor) -> Tensor:
    """The matrix [side, new] of linear interpolation with aligned corners."""
    unit = torch.eye(side, device=like.device)[None]
    return F.interpolate(unit, new, mode="linear", align_corners=True)[0].to(like.dtype)
