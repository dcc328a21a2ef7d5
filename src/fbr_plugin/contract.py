"""The contract between baselines, FBR, callbacks and the pipeline: what each owes the others, with types."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, TypedDict, runtime_checkable

from torch import Tensor

from fbr_plugin.errors import InputError

SeedStyle = Literal["irn", "amn", "seam", "compact"]
"""The layouts of seed files."""


@dataclass(frozen=True)
class ViewShape:
    """Sizes of the views that a baseline hands to FBR.

    Args:
        channels: L, channels of `DenseView.features`.
        num_classes: C, foreground classes.
        num_views: views of a training step.
        level_channels: channels of all `DenseView.levels` together; None where a view has no levels.

    Raises:
        ValueError: a size below 1.
    """

    channels: int
    num_classes: int
    num_views: int = 1
    level_channels: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.channels, self.num_classes, self.num_views, self.hypercolumn_channels)
        if not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise InputError(f"all sizes of a view must be whole numbers of at least 1, got {self}")

    @property
    def hypercolumn_channels(self) -> int:
        """Channels by which the gate describes a pixel: those of the levels, or of the features."""
        return self.channels if self.level_channels is None else self.level_channels


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
        grid: h, w to which FBR's losses resize features and scores, with aligned corners; None: as is.
        seed_scores: other maps of which seeds are made, [B, n*C, h, w], n of each class and none negative, on
            the grid of `scores`; None takes `scores`.
        to_seeds: makes seeds [B, C, H, W] in [0, 1] of such maps at any size, as prediction does; None
            takes `functional.cams_to_seeds`, or for logits the normalised softmax.
        levels: shallow feature levels [B, L_j, h_j, w_j], by which the class-aware gate describes a pixel;
            without any it takes `features`.
    """

    features: Tensor
    scores: Tensor
    labels: Tensor
    seg_scores: Tensor | None = None
    grid: Sequence[int] | None = None
    seed_scores: Tensor | None = None
    to_seeds: Callable[[Tensor], Tensor] | None = None
    levels: tuple[Tensor, ...] = ()

    @property
    def gate_levels(self) -> tuple[Tensor, ...]:
        """The levels by which the class-aware gate describes a pixel."""
        return self.levels or (self.features,)


class StepOutput(TypedDict, total=False):
    """The result of a baseline's `training_step`: `loss` always, `views` where `wants_views` is true."""

    loss: Tensor
    views: list[DenseView]


class Baseline:
    """A baseline to which FBR can be added, to be inherited beside LightningModule.

    `training_step` returns a `StepOutput`. Where the baseline predicts, it calls `gate_scores`, and
    `match_seeds` on the normalised result. `FBRMixin.dense_views` is for modules that cannot be edited.

    Attributes:
        view_shape: sizes of the views, set by the constructor or as a class attribute.
        wants_views: whether a step is to hand over its views; `FBRMixin` turns it on.
    """

    view_shape: ViewShape
    wants_views: bool = False

    def gate_scores(self, scores: Tensor, levels: Sequence[Tensor], logits: bool = False) -> Tensor:
        """Return the scores as they are; `FBRMixin` lowers them by the class-aware gate.

        Args:
            scores: maps [B, n*C, h, w] that are not negative, n of each class; or logits [B, 1+C, h, w].
            levels: feature levels [B, L_j, h_j, w_j] of the same images: `DenseView.gate_levels`.
            logits: whether the scores are logits.
        """
        return scores

    def match_seeds(self, seeds: Tensor) -> Tensor:
        """Return seeds [B, C, H, W] in [0, 1] as they are; `FBRMixin` gives gated ones their former scale."""
        return seeds


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
        graph: [C, C] semantic graph: row c has the probabilities with which negatives of c are sampled.
        bank: [N, D] the rows of the memory bank, of which the first `bank_fill` are filled.
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
    bank: Tensor


class GateTerms(NamedTuple):
    """The report of the class-aware gate on one view, without gradient.

    Attributes:
        mean_gate: 0-d, mean of the gate over all pixels, for the classes of each image.
        bank_fill: 0-d, background pixels in the gate's memory.
        class_absent_clusters: 0-d, mean number of class-absent clusters of a class.
        reclusters: 0-d int64, how often prototypes and clusters have been computed anew.
        finite: 0-d bool, False where NaN or infinite values made the gate skip this step.
        pseudo_labels: [B, h, w] int64, 0 = background.
        gate: [B, C, h, w] in (0, 1], by which the scores of each class are multiplied.
        distributions: [2, bins] running histograms of ungated and of gated seeds, even in the square root.
    """

    mean_gate: Tensor
    bank_fill: Tensor
    class_absent_clusters: Tensor
    reclusters: Tensor
    finite: Tensor
    pseudo_labels: Tensor
    gate: Tensor
    distributions: Tensor


@runtime_checkable
class WithFBR(Protocol):
    """A module that trains with FBR: the terms of the last step's first view, detached, or None."""

    fbr_terms: FBRTerms | None
    gate_terms: GateTerms | None


class SeedPrediction(NamedTuple):
    """The result of `predict_step` of a network with seeds.

    Attributes:
        ids: B names.
        seeds: B score maps in [0, 1] at the images' size: [C, H, W], or [1+C, H, W], background first.
        labels: [B, C] image labels in {0, 1}.
        style: usual layout of the files; None: AMN's where the background has scores of its own, else IRN's.
    """

    ids: list[str]
    seeds: Sequence[Tensor]
    labels: Tensor
    style: SeedStyle | None = None


class MaskPrediction(NamedTuple):
    """The result of `predict_step` of a segmentation network.

    Attributes:
        ids: B names.
        masks: B masks [H, W] at the images' size.
    """

    ids: list[str]
    masks: Sequence[Tensor]


class BoxPrediction(NamedTuple):
    """The result of `test_step` of a localization network.

    Attributes:
        maps: [B, H, W] the score map that localizes the class.
        boxes: [B, 4] the boxes found: x0, y0, x1, y1 in pixels of the image.
    """

    maps: Tensor
    boxes: Tensor


class PipelineNetwork:
    """A network that the pipeline trains, to be inherited beside LightningModule.

    Attributes:
        prediction_only: arguments that change predictions alone: the pipeline keeps the training.
    """

    prediction_only: ClassVar[tuple[str, ...]] = ()


@runtime_checkable
class NamedClasses(Protocol):
    """A data module, also one that is not ours, that names the foreground classes."""

    @property
    def class_names(self) -> Sequence[str]:
        """The foreground classes in the order of their numbers 1..C."""


@runtime_checkable
class ScorePropagator(Protocol):
    """A network that spreads scores over their image, such as IRN and AffinityNet."""

    def propagate(self, image: Tensor, scores: Tensor) -> Tensor:
        """Spread scores [K, H, W] over their image [1, 3, h, w]; returns [K, H, W]."""
