"""The settings that are compared: a name for each, and what it changes."""

from dataclasses import dataclass, replace
from typing import Any

from fbr_plugin import FBRConfig

OFF = {"weight_fg": 0.0, "weight_bg": 0.0, "weight_seg": 0.0, "weight_sim": 0.0}
STRONG = {"weight_fg": 0.5, "weight_bg": 0.5, "weight_seg": 0.1, "weight_sim": 0.1}


@dataclass(frozen=True)
class Variant:
    """One arm of a comparison.

    Args:
        fbr: fields of `FBRConfig` that differ from the baseline's published preset; None: the bare baseline.
        recommended: take `FBRConfig.recommended()` in place of the preset.
        rate_factor: multiplies the learning rates.
        labels: whose seeds AMN's labels are made of: the CAM of which variant.
        seed_offset: added to the training seed, for the noise floor.
        uniform: draw the classes of foreground negatives uniformly in place of by the semantic graph.
    """

    fbr: dict[str, Any] | None = None
    recommended: bool = False
    rate_factor: float = 1.0
    labels: str = "bare"
    seed_offset: int = 0
    uniform: bool = False

    def config(self, preset: FBRConfig) -> FBRConfig:
        """FBR's settings for a baseline with this published preset."""
        return replace(FBRConfig.recommended() if self.recommended else preset, **(self.fbr or {}))


def only(**weights: float) -> Variant:
    """FBR with these weights and no others."""
    return Variant({**OFF, **weights})


def published(**changes: Any) -> Variant:
    """The published setting with changes."""
    return Variant(changes)


def strong(**changes: Any) -> Variant:
    """Stronger contrasts, which show an effect more clearly, with changes."""
    return Variant({**STRONG, **changes})


BARE = {"bare": Variant()}
FINAL = {
    **BARE,
    "noise": Variant(seed_offset=1000),
    "published": Variant({}),
    "recommended": Variant({}, recommended=True),
}
LABELS = {"recommended labels": Variant({}, recommended=True, labels="recommended")}
ABLATION = {
    **BARE,
    "noise": Variant(seed_offset=1000),
    "published": published(),
    "only L_fg .1": only(weight_fg=0.1),
    "only L_bg .05": only(weight_bg=0.05),
    "only L_seg .1": only(weight_seg=0.1),
    "only L_sim .1": only(weight_sim=0.1),
    "strong": strong(),
    "only L_fg .5": only(weight_fg=0.5),
    "only L_bg .5": only(weight_bg=0.5),
    "warm-up 50": strong(warmup_steps=50),
    "K 1: a prototype an image": strong(num_clusters=1),
    "K 4": strong(num_clusters=4),
    "K 16": strong(num_clusters=16),
    "K 256: single pixels": strong(num_clusters=256),
    "bank 1000": strong(bank_size=1000),
    "negatives 32": strong(num_negatives=32),
    "negatives 1024": strong(num_negatives=1024),
    "temperature .1": strong(temperature=0.1),
    "uniform sampling": replace(strong(), uniform=True),
    "queries: all": strong(confidence_quantile=0.999, entropy_quantile=0.0),
    "queries: least sure": strong(confidence_quantile=0.1, entropy_quantile=0.5),
}
TUNING = {
    **BARE,
    "lr x2": Variant(rate_factor=2.0),
    "lr /2": Variant(rate_factor=0.5),
    "recommended": Variant({}, recommended=True),
    "recommended lr x2": Variant({}, recommended=True, rate_factor=2.0),
    "recommended lr /2": Variant({}, recommended=True, rate_factor=0.5),
}
GATE = {
    **BARE,
    "gate": Variant({"gate": True, **OFF}),
    "gate + published": Variant({"gate": True}),
    "gate + strong": Variant({"gate": True, **STRONG}),
    "gate 4 prototypes": Variant({"gate": True, **OFF, "gate_prototypes": 4}),
    "gate 8 words": Variant({"gate": True, **OFF, "gate_words": 8}),
    "gate 256 words": Variant({"gate": True, **OFF, "gate_words": 256}),
}
