"""The class-aware gate: it lowers a class where background that occurs without the class explains a pixel."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fbr_plugin import functional as fbr
from fbr_plugin.config import GateConfig
from fbr_plugin.contract import DenseView, GateTerms, ViewShape
from fbr_plugin.distributed import BatchShare, all_reduce_and, all_reduce_sum, broadcast_from_rank_zero
from fbr_plugin.modules.checks import all_finite, check_levels, check_view
from fbr_plugin.modules.class_bank import ClassBank
from fbr_plugin.modules.memory_bank import MemoryBank
from fbr_plugin.modules.skipped_steps import SkippedSteps
from fbr_plugin.modules.step_random import StepRandom


class ClassAwareGate(StepRandom):
    """Lowers a class's scores where background that occurs *without* the class explains a pixel.

    Ours, not part of the published method. Image labels know one thing about background for certain: what
    occurs in images without a class is not this class. Pixels are described by hypercolumns of the encoder's
    shallow levels. The prototypes of a class are clusters of its best scored pixels. The background of all
    images is clustered, too; a cluster is class-absent for each class that is missing from images whose
    pixels are in it. `functional.gate` compares the two.

    Prototypes come from gated scores, so that the gate improves its own prototypes as training proceeds. In
    training mode `update` learns from a view; `forward` never changes anything.

    Args:
        shape: sizes of the views.
        config: settings; None takes `GateConfig()`.
        global_batch: whether the gate learns from the images of all processes as one process would.

    Attributes:
        used: whether `forward` was called: a gate that is trained and never used lowers nothing.
    """

    prototypes: Tensor
    clusters: Tensor
    class_absent: Tensor
    similarity: Tensor
    reclusters: Tensor
    distributions: Tensor

    def __init__(
        self, shape: ViewShape, config: GateConfig | None = None, global_batch: bool = False
    ) -> None:
        super().__init__(global_batch)
        self.shape = shape
        self.config = config = config or GateConfig()
        self.used = False
        self._steps = 0  # as `step`, which the host cannot read without waiting
        channels, classes = shape.hypercolumn_channels, shape.num_classes
        self.background = MemoryBank(config.background_rows, channels, classes)
        self.pixels = ClassBank(classes, config.class_rows, channels)
        self.skipped = SkippedSteps("The class-aware gate")
        self.register_buffer("prototypes", torch.zeros(classes, config.num_prototypes, channels))
        self.register_buffer("clusters", torch.zeros(config.num_clusters, channels))
        self.register_buffer("class_absent", torch.zeros(config.num_clusters, classes, dtype=torch.bool))
        self.register_buffer("similarity", torch.zeros(2, classes))  # decayed sum and count
        self.register_buffer("reclusters", torch.zeros((), dtype=torch.int64))
        self.register_buffer("distributions", torch.zeros(2, fbr.BINS))  # of ungated and of gated seeds

    @torch.no_grad()
    def forward(self, levels: Sequence[Tensor], grid: Sequence[int] | None = None) -> Tensor:
        """The gate of every class.

        Args:
            levels: maps [B, L_j, h_j, w_j], those that the views have as `gate_levels`.
            grid: h and w; None takes those of the last level.

        Returns:
            [B, C, h, w] in (0, 1].

        Raises:
            ValueError: levels of other channels.
        """
        check_levels(levels, self.shape.hypercolumn_channels)
        self.used = True
        return self._gate(self._compare(fbr.hypercolumns(levels, grid or levels[-1].shape[-2:])))

    @torch.no_grad()
    def match(self, seeds: Tensor) -> Tensor:
        """Give gated seeds the distribution of ungated ones, by one monotone map for all images and classes.

        The gate lowers scores, and so it moves the threshold at which they are best. The map keeps their
        order and undoes that: a threshold means what it means without the gate.

        Args:
            seeds: gated scores in [0, 1], of any shape.
        """
        if not self.config.keep_scale:
            return seeds
        ungated, gated = self.distributions
        matched = fbr.match_distribution(seeds, gated, ungated)
        return torch.where(self.reclusters > 0, matched, seeds)  # before that, the gate is 1

    @torch.compiler.disable(recursive=False)  # the schedule is the host's; `learn` may be compiled
    def update(self, view: DenseView, index: int = 0) -> GateTerms:
        """Learn from a view, in training mode, and recluster when it is time.

        Args:
            view: the baseline's dense outputs.
            index: which view of the step this is; view 0 comes first and begins the step.

        Raises:
            ValueError: shapes that disagree with each other or with the constructor, or global batches of
                which the processes have different numbers of images.
        """
        terms = self.learn(view, index)
        self._steps += self.training and index == 0
        if not self.training or self._steps % self.config.recluster_every:
            return terms
        # Rare, and long to compile: not part of a compiled training step.
        torch.compiler.disable(self.recluster)(self.generator(2 * self.shape.num_views + index))
        return terms._replace(
            class_absent_clusters=self.class_absent.sum(0).float().mean(), reclusters=self.reclusters.clone()
        )

    def learn(self, view: DenseView, index: int = 0) -> GateTerms:
        """What `update` does in every step: all but the reclustering. It can be captured as a CUDA graph."""
        check_view(view, self.shape, index)
        check_levels(view.gate_levels, self.shape.hypercolumn_channels)
        self.begin(index, len(view.features))
        finite, scores = all_finite(view.features), view.scores.detach().nan_to_num()
        finite = all_reduce_and(finite) if self.training else finite
        maps = fbr.normalise_scores(scores, view.labels, self.config.background_score)
        pseudo_labels = maps.normalised.argmax(1)
        background = pseudo_labels == 0
        scores = maps.normalised[:, 1:] * (view.labels[..., None, None] > 0)
        pixels = fbr.hypercolumns(view.gate_levels, scores.shape[-2:])
        near = self._compare(pixels)
        if self.training:
            self._update_similarity(near.class_absent, scores, view.labels, finite)
        gate = self._gate(near)
        if self.training:
            # Streams of its own: those of the first views belong to the losses, with or without them.
            generator = self.generator(self.shape.num_views + index)
            rows = pixels.flatten(2).transpose(1, 2)
            self._remember_background(rows, background.flatten(1), view.labels, finite, generator)
            self._remember_classes(rows, (scores * gate).flatten(2), view.labels, finite, generator)
            self._update_distributions(view, gate, finite)
        self.skipped(finite)
        return GateTerms(
            mean_gate=_mean_over_present(gate, view.labels, self.share),
            bank_fill=self.background.fill.clone(),
            class_absent_clusters=self.class_absent.sum(0).float().mean(),
            reclusters=self.reclusters.clone(),
            finite=finite,
            pseudo_labels=pseudo_labels,
            gate=gate,
            distributions=self.distributions.clone(),
        )

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile `forward` and `learn` in place, with the arguments of `torch.compile`."""
        super().compile(*args, **kwargs)
        self.learn = torch.compile(self.learn, *args, **kwargs)  # type: ignore[method-assign]

    def set_extra_state(self, state: Tensor) -> None:
        """Take the seed and the step counter from a state dict."""
        super().set_extra_state(state)
        self._steps = int(self.step)

    @torch.no_grad()
    def recluster(self, generator: fbr.Generator) -> None:
        """Compute prototypes and background clusters anew from what is remembered.

        Each process clusters the same rows from other random starts: all take what the first one finds.
        """
        classes = fbr.kmeans(
            self.pixels.rows, self.pixels.mask(), self.config.num_prototypes, generator=generator
        )
        self.prototypes.copy_(broadcast_from_rank_zero(F.normalize(classes.centroids, dim=-1)))
        bank = self.background
        mask = torch.arange(bank.size, device=bank.fill.device) < bank.fill
        found = fbr.background_clusters(
            bank.nrois[:-1], bank.labels[:-1], mask, self.config.num_clusters, generator=generator
        )
        self.clusters.copy_(broadcast_from_rank_zero(found.centres))
        self.class_absent.copy_(broadcast_from_rank_zero(found.class_absent))
        self.reclusters += 1

    def _compare(self, pixels: Tensor) -> fbr.ClassSimilarity:
        # In the precision of the pixels, whatever that of the buffers.
        clusters = fbr.BackgroundClusters(self.clusters.to(pixels.dtype), self.class_absent)
        return fbr.class_similarity(pixels, self.prototypes.to(pixels.dtype), clusters)

    def _gate(self, near: fbr.ClassSimilarity) -> Tensor:
        total, count = self.similarity.float()
        typical = torch.where(count > 0, total / count.clamp_min(torch.finfo(count.dtype).tiny), torch.inf)
        return fbr.gate(near.own, near.class_absent, typical, self.config.temperature)

    def _update_similarity(self, class_absent: Tensor, scores: Tensor, labels: Tensor, mask: Tensor) -> None:
        quantile, share = self.config.similarity_quantile, self.share
        found = fbr.background_similarity(class_absent, scores, labels, quantile, share=share)
        known = found.isfinite() & mask
        sums = torch.stack([found.masked_fill(~known, 0), known])
        self.similarity.mul_(self.config.decay).add_(sums if share.global_batch else all_reduce_sum(sums))

    def _update_distributions(self, view: DenseView, gate: Tensor, mask: Tensor) -> None:
        logits = view.seed_scores is None and view.scores.shape[1] == 1 + gate.shape[1]
        scores = (view.scores if view.seed_scores is None else view.seed_scores).detach().nan_to_num().float()
        maps = scores if logits else scores.relu()
        # Seeds are interpolated before they are normalised, which lowers the peaks of gated maps the most.
        grid = [2 * side for side in scores.shape[-2:]]
        normalise = fbr.logits_to_seeds if logits else fbr.cams_to_seeds
        to_seeds = view.to_seeds or partial(normalise, labels=view.labels)
        found = [
            fbr.score_histogram(to_seeds(fbr.resize(each, grid)))
            for each in (maps, fbr.lower_scores(maps, gate, logits))
        ]
        counts = all_reduce_sum(torch.stack(found) * mask)
        total = counts.sum(1, keepdim=True)
        updated = self.config.decay * self.distributions + counts / total.clamp_min(1)
        self.distributions.copy_(torch.where(total > 0, updated, self.distributions))

    def _remember_background(
        self, rows: Tensor, background: Tensor, labels: Tensor, mask: Tensor, generator: fbr.Generator
    ) -> None:
        drawn = fbr.uniform(background.shape, rows.device, generator, share=self.share) * background
        best = drawn.topk(min(self.config.background_pixels, drawn.shape[1]), dim=1)
        own = rows.gather(1, best.indices[..., None].expand(-1, -1, rows.shape[-1]))
        valid = (best.values > 0) & mask
        repeated = labels.repeat_interleave(valid.shape[1], 0)
        self.background.enqueue(own.flatten(0, 1), repeated, valid.flatten(), len(labels), self.share)

    def _remember_classes(
        self, rows: Tensor, scores: Tensor, labels: Tensor, mask: Tensor, generator: fbr.Generator
    ) -> None:
        best = scores.topk(max(1, scores.shape[-1] // self.config.topk_divisor), dim=-1)
        drawn = fbr.uniform(best.values.shape, rows.device, generator, share=self.share)
        chosen = drawn.topk(min(self.config.class_pixels, drawn.shape[-1]), dim=-1).indices  # [B, C, m]
        index = best.indices.gather(-1, chosen).flatten(1)
        own = rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))
        valid = (labels[..., None] > 0) & (best.values.gather(-1, chosen) > 0) & mask
        kinds = torch.arange(labels.shape[1], device=rows.device)[:, None].expand_as(chosen)
        self.pixels.enqueue(own.flatten(0, 1), kinds.flatten(), valid.flatten(), len(labels), self.share)


def _mean_over_present(gate: Tensor, labels: Tensor, share: BatchShare) -> Tensor:
    """Mean of a gate [B, C, h, w] over all pixels of the classes of each image; 1 without any class."""
    present = (labels > 0).to(gate.dtype)
    total, count = share.total(torch.stack([(gate.mean((2, 3)) * present).sum(), present.sum()]))
    return torch.where(count > 0, total / count.clamp_min(1), 1.0)
