"""The settings of FBR's losses and of the class-aware gate, with the published values as presets."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any, Literal, TypedDict, TypeVar

from fbr_plugin.errors import InputError, InputTypeError, check_choice

T = TypeVar("T")
Sampling = Literal["graph", "uniform"]
BankRows = Literal["nrois", "pixels"]


@dataclass(frozen=True)
class FBRConfig:
    """Settings of FBR's losses. The defaults are the published values for AMN (`FBRConfig.amn()`).

    Args:
        enabled: whether the losses are computed; without them no head and no memory bank is allocated.
        dim: width D of both projections.
        num_clusters: K, the NROIs of an image.
        kmeans_iterations: Lloyd iterations after the seeding.
        bank_rows: what of an image's background enters the memory bank: its "nrois", or all its "pixels";
            with a K of 1, the NROI is the mean of its background, one prototype.
        bank_size: rows of the memory bank of NROIs.
        min_bank: draw no negatives from a bank with fewer rows than this.
        shared_bank: all views of a step share one bank; False gives each view its own.
        num_negatives: negatives of each class and step, in each of the two contrasts.
        sampling: how classes of the foreground negatives are drawn: by the semantic "graph", or "uniform".
        temperature: of both contrasts and of the semantic graph.
        topk_divisor: prototypes average the top h*w/topk_divisor positions of a class in the batch.
        background_score: the constant score of the background where it has no map of its own.
        score_floor: pixels with no greater score do not count towards the confidence threshold.
        confidence_quantile: a pixel above this quantile of its class's scores in its image is sure.
        entropy_quantile: a pixel at or below this quantile of its image's entropies is sure.
        seg_threshold: pixels whose summed normalised CAM is below are background for the segmentation loss.
        weight_fg: of the intra-foreground contrast.
        weight_bg: of the foreground-to-background contrast.
        weight_seg: of the background segmentation loss.
        weight_sim: of the separation of the two projections.
        warmup_steps: steps at the start in which the bank fills and both contrasts are 0.
        released_heads: the heads of the released code for PPC: features are projected on their own grid, and
            projections are resized for the contrasts; the background classifier has a fixed normalisation
            and no bias; the separation takes its normalised features. False resizes the features first.

    Raises:
        ValueError: a value out of its range; the message names the field, the value and the range.
    """

    enabled: bool = True
    dim: int = 128
    num_clusters: int = 8
    kmeans_iterations: int = 10
    bank_rows: BankRows = "nrois"
    bank_size: int = 100_000
    min_bank: int = 64
    shared_bank: bool = True
    num_negatives: int = 256
    sampling: Sampling = "graph"
    temperature: float = 0.5
    topk_divisor: int = 32
    background_score: float = 0.1
    score_floor: float = 0.05
    confidence_quantile: float = 0.4
    entropy_quantile: float = 0.25
    seg_threshold: float = 0.05
    weight_fg: float = 0.1
    weight_bg: float = 0.05
    weight_seg: float = 0.1
    weight_sim: float = 0.1
    warmup_steps: int = 0
    released_heads: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, field.type, vars(self)[field.name])
        check_choice("bank_rows", self.bank_rows, BankRows)
        check_choice("sampling", self.sampling, Sampling)
        if self.min_bank > self.bank_size:
            raise InputError(f"min_bank ({self.min_bank}) must not exceed bank_size ({self.bank_size})")

    def disabled_terms(self) -> list[str]:
        """The terms of `FBRTerms` whose weight is 0, and their total if that leaves none."""
        weights = {"fg": self.weight_fg, "bg": self.weight_bg, "seg": self.weight_seg, "sim": self.weight_sim}
        off = [name for name, weight in weights.items() if weight == 0]
        return off if len(off) < len(weights) else [*off, "total"]

    @classmethod
    def amn(cls) -> "FBRConfig":
        """The published values for AMN.

        The released AMN code has no background classifier (a `weight_seg` of 0); the paper has the loss for
        both baselines, and so has this preset, with the weight of PPC.
        """
        return cls()

    @classmethod
    def ppc(cls) -> "FBRConfig":
        """The published values for PPC: half the bank for each view, and a stricter reliability mask."""
        return cls(
            bank_size=50_000,
            shared_bank=False,
            topk_divisor=16,
            confidence_quantile=0.6,
            entropy_quantile=0.1,
            weight_bg=0.01,
        )


@dataclass(frozen=True)
class GateConfig:
    """Settings of the class-aware gate, which is ours and not part of the published method.

    Args:
        enabled: whether there is a gate; without one nothing is allocated. A mapping of single fields leaves
            this as it is by default: on without FBR's losses, and off beside them.
        num_prototypes: prototypes of each class.
        num_clusters: clusters of the background of the training set.
        temperature: of the comparison of a class-absent cluster with the class, and with background.
        background_score: the constant score of the background where it has no map of its own.
        background_rows: background pixels that are remembered.
        background_pixels: background pixels of an image that are remembered in a step.
        class_rows: pixels of each class that are remembered.
        class_pixels: pixels of each image and class that are remembered in a step.
        topk_divisor: they are sampled from the top h*w/topk_divisor positions of the class in its image.
        recluster_every: steps after which prototypes and clusters are computed anew.
        decay: of the running background similarity and score distributions, in a step.
        similarity_quantile: quantile of the background's similarities that is averaged.
        keep_scale: whether gated seeds get the distribution of ungated ones, so that thresholds keep their
            meaning. Both are learned either way, so that a trained gate can be used with and without it.

    Raises:
        ValueError: a value out of its range; the message names the field, the value and the range.
    """

    enabled: bool = True
    num_prototypes: int = 16
    num_clusters: int = 64
    temperature: float = 0.03
    background_score: float = 0.1
    background_rows: int = 4096
    background_pixels: int = 8
    class_rows: int = 256
    class_pixels: int = 4
    topk_divisor: int = 32
    recluster_every: int = 25
    decay: float = 0.98
    similarity_quantile: float = 0.1
    keep_scale: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, field.type, vars(self)[field.name])


class Recommended(TypedDict):
    """Arguments of a module with FBR."""

    fbr: FBRConfig
    gate: GateConfig


def recommended() -> Recommended:
    """The default arguments, written out: the gate without the losses (measured in docs/effect.md)."""
    return {"fbr": FBRConfig(enabled=False), "gate": GateConfig()}


def preset(owner: type, name: str) -> Any:
    """The default of a constructor's argument, from the nearest class that names the argument."""
    for base in owner.__mro__:
        if "__init__" in vars(base) and name in (known := signature(vars(base)["__init__"]).parameters):
            return known[name].default
    raise InputError(f"{owner.__name__} has no argument {name!r}")


def merged(default: T, given: T | Mapping[str, Any]) -> T:
    """The settings that an argument stands for.

    Args:
        default: an instance of a dataclass.
        given: another instance, which is taken as it is; or a mapping of the fields that differ from the
            default.

    Raises:
        TypeError: given is neither.
        ValueError: a field that the dataclass does not have.
    """
    kind, known = type(default).__name__, [field.name for field in fields(default)]  # type: ignore[arg-type]
    if isinstance(given, type(default)):
        return given
    if not isinstance(given, Mapping):
        raise InputTypeError(
            f"expected {kind}(...) or a mapping of its fields {', '.join(known)}; got {given!r}"
        )
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known) or known
            raise InputError(f"{kind} has no field {name!r}; did you mean {', '.join(close)}?")
    return replace(default, **given)  # type: ignore[type-var]


def _check(name: str, kind: object, value: Any) -> None:
    """Raise unless a setting has its type, and is in the range that its name stands for."""
    suits = {bool: (bool,), int: (int,), float: (int, float)}.get(kind)  # type: ignore[call-overload]
    if suits and type(value) not in suits:
        raise InputTypeError(f"{name} must be of type {kind.__name__}, got {value!r}")  # type: ignore[attr-defined]
    if kind is int and name != "warmup_steps" and value < 1:
        raise InputError(f"{name} must be at least 1, got {value}")
    if name.startswith(("weight_", "warmup_")) and not 0 <= value < float("inf"):
        raise InputError(f"{name} must be a finite number of at least 0, got {value}")
    if name.endswith(("_quantile", "decay")) and not 0 <= value < 1:
        raise InputError(f"{name} must lie in [0, 1), got {value}")
    if name in ("background_score", "score_floor", "seg_threshold") and not 0 <= value <= 1:
        raise InputError(f"{name} must lie in [0, 1], got {value}")
    if name.endswith("temperature") and not 0 < value < float("inf"):
        raise InputError(f"{name} must be positive, got {value}")
