"""The class-aware gate: it lowers a class where background that occurs without it explains a pixel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbr_plugin import functional as fbr
from fbr_plugin.config import FBRConfig
from fbr_plugin.distributed import all_gather_rows, all_reduce_sum, broadcast_from_rank_zero
from fbr_plugin.modules.memory_bank import MemoryBank

BACKGROUND_ROWS = 4096  # background pixels that are remembered
IMAGE_PIXELS = 8  # of an image's background in a step
CLASS_ROWS = 256  # pixels of each class that are remembered
CLASS_PIXELS = 4  # of an image and class in a step
BEST = 32  # they are drawn from the best one of so many of the class's pixels
REFRESH = 25  # steps from one renewal of prototypes and words to the next
DECAY = 0.98  # of the running mean of the reach, in a step
REACH_QUANTILE = 0.1
REACH_TEMPERATURE = 0.01


class ClassBank(nn.Module):
    """The latest rows of each class: a ring a class, equal on every process.

    Args:
        num_classes: C.
        size: rows of each ring.
        dim: width of a row.
    """

    # One row more than `size` takes what is masked out, as in `MemoryBank`.
    rows: Tensor
    pointer: Tensor
    fill: Tensor

    def __init__(self, num_classes: int, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", torch.zeros(num_classes, size + 1, dim))
        self.register_buffer("pointer", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("fill", torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, rows: Tensor, classes: Tensor, mask: Tensor) -> None:
        """Add the masked rows of all processes; the oldest rows of their classes give way.

        Args:
            rows: [N, L].
            classes: [N] int64, 0 to C - 1.
            mask: [N] bool, the rows to add.
        """
        rows, classes, mask = all_gather_rows(rows, classes, mask)
        member = F.one_hot(classes, len(self.fill)) * mask[:, None]
        ranks = member.cumsum(0)
        count = ranks[-1]
        rank = ranks.gather(1, classes[:, None])[:, 0]
        # More rows than a ring holds: only the last ones stay.
        kept = mask & (rank > (count - self.size)[classes])
        slot = torch.where(kept, (self.pointer[classes] + rank - 1) % self.size, self.size)
        self.rows[classes, slot] = rows.to(self.rows.dtype)
        self.pointer.copy_((self.pointer + count) % self.size)
        self.fill.copy_((self.fill + count).clamp_max(self.size))

    def mask(self) -> Tensor:
        """Which rows hold something: [C, size + 1]."""
        return torch.arange(self.size + 1, device=self.fill.device) < self.fill[:, None]


class ClassAwareGate(nn.Module):
    """Lowers a class's scores where background that occurs *without* the class explains a pixel.

    Ours, not part of the published method. Image labels know one thing about background for certain: what
    occurs in images without a class is not this class. Pixels are described by several levels of the encoder.
    Prototypes of a class are clusters of its best scored pixels. Words are NROIs of the whole set, clusters
    of its background pixels; a word is foreign to a class if pixels of images without the class are in it.
    `functional.gate` compares the two.

    Prototypes come from gated scores, so that the gate improves its own prototypes as training goes on.

    Args:
        channels: L, channels of all levels together.
        num_classes: C, foreground classes.
        config: settings.
    """

    prototypes: Tensor
    words: Tensor
    foreign: Tensor
    reached: Tensor

    def __init__(self, channels: int, num_classes: int, config: FBRConfig) -> None:
        super().__init__()
        self.config = config
        self.background = MemoryBank(BACKGROUND_ROWS, channels, num_classes)
        self.pixels = ClassBank(num_classes, CLASS_ROWS, channels)
        self.register_buffer("prototypes", torch.zeros(num_classes, config.gate_prototypes, channels))
        self.register_buffer("words", torch.zeros(config.gate_words, channels))
        self.register_buffer("foreign", torch.zeros(config.gate_words, num_classes, dtype=torch.bool))
        self.register_buffer("reached", torch.zeros(2, num_classes))  # decayed sum and count

    @torch.no_grad()
    def forward(self, levels: Sequence[Tensor], grid: Sequence[int] | None = None) -> Tensor:
        """The gate of every class.

        Args:
            levels: maps [B, L_j, h_j, w_j].
            grid: h and w; None takes those of the last level.

        Returns:
            [B, C, h, w] in (0, 1].
        """
        return self._gate(self._affinity(fbr.describe(levels, grid or levels[-1].shape[-2:])))

    @torch.no_grad()
    def observe(
        self,
        levels: Sequence[Tensor],
        scores: Tensor,
        labels: Tensor,
        background: Tensor,
        mask: Tensor,
        step: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Learn from a batch, in training mode; returns the word each pixel is nearest to: [B, h, w].

        Args:
            levels: maps [B, L_j, h_j, w_j].
            scores: [B, C, h, w] in [0, 1], 0 for classes that an image lacks.
            labels: [B, C] image labels.
            background: [B, h, w] bool, the pixels that are taken for background.
            mask: 0-d bool, whether the batch is to be remembered.
            step: of the training; prototypes and words are renewed every `REFRESH`.
            generator: source of randomness.
        """
        pixels = fbr.describe(levels, scores.shape[-2:])
        near = self._affinity(pixels)
        if not self.training:
            return near.word
        reach = fbr.reach(near.foreign, scores, labels, REACH_QUANTILE)
        known = reach.isfinite() & mask
        self.reached.mul_(DECAY).add_(all_reduce_sum(torch.stack([reach.masked_fill(~known, 0), known])))
        rows = pixels.flatten(2).transpose(1, 2)
        self._remember_background(rows, background.flatten(1), labels, mask, generator)
        self._remember_classes(rows, (scores * self._gate(near)).flatten(2), labels, mask, generator)
        if step % REFRESH == 0:
            self.refresh(generator)
        return near.word

    @torch.no_grad()
    def refresh(self, generator: torch.Generator) -> None:
        """Renew prototypes and words from what is remembered.

        Each process clusters the same rows from other random starts: all take what the first one finds.
        """
        number = self.config.gate_prototypes
        clusters = fbr.kmeans(self.pixels.rows, self.pixels.mask(), number, generator=generator)
        self.prototypes.copy_(broadcast_from_rank_zero(F.normalize(clusters.centroids, dim=-1)))
        bank = self.background
        mask = torch.arange(bank.size, device=bank.fill.device) < bank.fill
        words = fbr.background_words(
            bank.nrois[:-1], bank.labels[:-1], mask, self.config.gate_words, generator=generator
        )
        self.words.copy_(broadcast_from_rank_zero(words.centres))
        self.foreign.copy_(broadcast_from_rank_zero(words.foreign))

    def _affinity(self, pixels: Tensor) -> fbr.Affinity:
        # In the precision of the pixels, whatever that of the buffers.
        words = fbr.Words(self.words.to(pixels.dtype), self.foreign)
        return fbr.affinity(pixels, self.prototypes.to(pixels.dtype), words)

    def _gate(self, near: fbr.Affinity) -> Tensor:
        total, count = self.reached.float()
        reach = torch.where(count > 0, total / count.clamp_min(torch.finfo(count.dtype).tiny), torch.inf)
        return fbr.gate(near.own, near.foreign, reach, self.config.gate_temperature, REACH_TEMPERATURE)

    def _remember_background(
        self, rows: Tensor, background: Tensor, labels: Tensor, mask: Tensor, generator: torch.Generator
    ) -> None:
        drawn = torch.rand(background.shape, device=rows.device, generator=generator) * background
        best = drawn.topk(min(IMAGE_PIXELS, drawn.shape[1]), dim=1)
        own = rows.gather(1, best.indices[..., None].expand(-1, -1, rows.shape[-1]))
        valid = (best.values > 0) & mask
        repeated = labels.repeat_interleave(valid.shape[1], 0)
        self.background.enqueue(own.flatten(0, 1), repeated, valid.flatten())

    def _remember_classes(
        self, rows: Tensor, scores: Tensor, labels: Tensor, mask: Tensor, generator: torch.Generator
    ) -> None:
        best = scores.topk(max(1, scores.shape[-1] // BEST), dim=-1)
        drawn = torch.rand(best.values.shape, device=rows.device, generator=generator)
        chosen = drawn.topk(min(CLASS_PIXELS, drawn.shape[-1]), dim=-1).indices  # [B, C, m]
        index = best.indices.gather(-1, chosen).flatten(1)
        own = rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))
        valid = (labels[..., None] > 0) & (best.values.gather(-1, chosen) > 0) & mask
        kinds = torch.arange(labels.shape[1], device=rows.device)[:, None].expand_as(chosen)
        self.pixels.enqueue(own.flatten(0, 1), kinds.flatten(), valid.flatten())
