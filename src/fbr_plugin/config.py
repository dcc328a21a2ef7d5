"""The settings of FBR, with the published values as presets."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

Settings = TypeVar("Settings", bound=Any)


@dataclass(frozen=True)
class FBRConfig:
    """Settings of FBR. The defaults are the published values for AMN (`FBRConfig.amn()`).

    Args:
        dim: width D of both projections.
        num_clusters: K, the NROIs of an image.
        kmeans_iterations: Lloyd iterations after the seeding.
        bank_size: rows of the memory bank of NROIs.
        min_bank: draw no negatives from a bank with fewer rows than this.
        shared_bank: all views of a step share one bank; False gives each view its own.
        num_negatives: negatives a class and step, in each of the two contrasts.
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
        gate: ours: lower a class's scores where background that occurs without the class explains a pixel.
        gate_prototypes: prototypes of a class, for the gate.
        gate_words: kinds of background that the gate tells apart.
        gate_temperature: of the gate's sigmoid.

    Raises:
        ValueError: a value out of its range; the message names the field, the value and the range.
    """

    dim: int = 128
    num_clusters: int = 8
    kmeans_iterations: int = 10
    bank_size: int = 100_000
    min_bank: int = 64
    shared_bank: bool = True
    num_negatives: int = 256
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
    gate: bool = False
    gate_prototypes: int = 16
    gate_words: int = 64
    gate_temperature: float = 0.03

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and field.name != "warmup_steps" and value < 1:
                raise ValueError(f"{field.name} must be at least 1, got {value}")
            if field.name.startswith(("weight_", "warmup_")) and not 0 <= value < float("inf"):
                raise ValueError(f"{field.name} must be a finite number of at least 0, got {value}")
            if field.name.endswith("_quantile") and not 0 <= value < 1:
                raise ValueError(f"{field.name} must lie in [0, 1), got {value}")
            if field.name in ("background_score", "score_floor", "seg_threshold") and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must lie in [0, 1], got {value}")
            if field.name.endswith("temperature") and not 0 < value < float("inf"):
                raise ValueError(f"{field.name} must be positive, got {value}")
        if self.min_bank > self.bank_size:
            raise ValueError(f"min_bank ({self.min_bank}) must not exceed bank_size ({self.bank_size})")

    @classmethod
    def amn(cls) -> "FBRConfig":
        """The published values for AMN.

        The released AMN code has no background classifier (a `weight_seg` of 0); the paper has the loss for
        both baselines, and so has this preset, with the weight of PPC.
        """
        return cls()

    @classmethod
    def recommended(cls) -> "FBRConfig":
        """Ours: the class-aware gate alone (docs/effect.md says what it brings, and what the losses do)."""
        return cls(gate=True, weight_fg=0.0, weight_bg=0.0, weight_seg=0.0, weight_sim=0.0)

    @classmethod
    def ppc(cls) -> "FBRConfig":
        """The published values for PPC: one bank a view, half the size, and a stricter reliability mask."""
        return cls(
            bank_size=50_000,
            shared_bank=False,
            topk_divisor=16,
            confidence_quantile=0.6,
            entropy_quantile=0.1,
            weight_bg=0.01,
        )


def merged(default: Settings, given: Settings | Mapping[str, Any] | None) -> Settings:
    """The settings that an argument stands for.

    Args:
        default: an instance of a dataclass.
        given: another instance, which is taken as it is; a mapping of fields that differ from the default;
            or None for the default.

    Raises:
        TypeError: given is neither.
        ValueError: a field that the dataclass does not have.
    """
    if given is None or isinstance(given, type(default)):
        return given or default
    kind, known = type(default).__name__, [field.name for field in fields(default)]
    if not isinstance(given, Mapping):
        raise TypeError(f"expected {kind}(...) or a mapping of its fields {', '.join(known)}; got {given!r}")
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known) or known
            raise ValueError(f"{kind} has no field {name!r}; did you mean {', '.join(close)}?")
    return replace(default, **given)
