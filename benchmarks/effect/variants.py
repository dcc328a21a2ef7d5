"""The settings that are compared: a name for each, and what it changes."""

from dataclasses import dataclass, replace
from typing import Any

from fbr_plugin import FBRMixin
from fbr_plugin.config import FBRConfig, GateConfig
from fbr_plugin.presets import PUBLISHED

OFF = {"weight_fg": 0.0, "weight_bg": 0.0, "weight_seg": 0.0, "weight_sim": 0.0}
HIGH = {"weight_fg": 0.5, "weight_bg": 0.5, "weight_seg": 0.1, "weight_sim": 0.1}
PHOTO_LOSSES = {**HIGH, "temperature": 0.1}


@dataclass(frozen=True)
class Variant:
    """One arm of a comparison.

    Args:
        fbr: fields of `FBRConfig` that differ from the baseline's published preset; None: no losses.
        gate: fields of `GateConfig` that differ from its defaults; None: no gate.
        rate_factor: multiplies the learning rates.
        labels: whose seeds AMN's labels are made of: the CAM of which variant.
        seed_offset: added to the training seed, for the noise floor.
        uniform: draw the classes of foreground negatives uniformly in place of by the semantic graph.
    """

    fbr: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    rate_factor: float = 1.0
    labels: str = "baseline"
    seed_offset: int = 0
    uniform: bool = False

    def settings(self, variant: type[FBRMixin]) -> dict[str, Any]:
        """The arguments `fbr` and `gate` for a class with FBR; none for the bare baseline."""
        if self.fbr is None and self.gate is None:
            return {}
        losses = FBRConfig(enabled=False)
        if self.fbr is not None:
            losses = replace(PUBLISHED[variant.published], **self.fbr)
        gate = GateConfig(enabled=False) if self.gate is None else GateConfig(**self.gate)
        return {"fbr": losses, "gate": gate}


def only(**weights: float) -> Variant:
    """FBR with these weights and no others."""
    return Variant({**OFF, **weights})


def published(**changes: Any) -> Variant:
    """The published setting with changes."""
    return Variant(changes)


def high_weight(**changes: Any) -> Variant:
    """Stronger contrasts, which show an effect more clearly, with changes."""
    return Variant({**HIGH, **changes})


BASELINE = {"baseline": Variant()}
FINAL = {
    **BASELINE,
    "seed control": Variant(seed_offset=1000),
    "published": Variant({}),
    "recommended": Variant(gate={}),
}
LABELS = {"recommended labels": Variant(gate={}, labels="recommended")}
PHOTOS = {
    **FINAL,
    "losses": Variant(PHOTO_LOSSES),
    "gate + losses": Variant(PHOTO_LOSSES, gate={}),
    "gated labels": Variant(labels="recommended"),
    "gated labels + gate": Variant(gate={}, labels="recommended"),
}
ABLATION = {
    **BASELINE,
    "seed control": Variant(seed_offset=1000),
    "published": published(),
    "only L_fg .1": only(weight_fg=0.1),
    "only L_bg .05": only(weight_bg=0.05),
    "only L_seg .1": only(weight_seg=0.1),
    "only L_sim .1": only(weight_sim=0.1),
    "high weight": high_weight(),
    "only L_fg .5": only(weight_fg=0.5),
    "only L_bg .5": only(weight_bg=0.5),
    "warm-up 50": high_weight(warmup_steps=50),
    "K 1: a prototype an image": high_weight(num_clusters=1),
    "K 4": high_weight(num_clusters=4),
    "K 16": high_weight(num_clusters=16),
    "K 256: single pixels": high_weight(num_clusters=256),
    "bank 1000": high_weight(bank_size=1000),
    "negatives 32": high_weight(num_negatives=32),
    "negatives 1024": high_weight(num_negatives=1024),
    "temperature .1": high_weight(temperature=0.1),
    "uniform sampling": replace(high_weight(), uniform=True),
    "queries: all": high_weight(confidence_quantile=0.999, entropy_quantile=0.0),
    "queries: least sure": high_weight(confidence_quantile=0.1, entropy_quantile=0.5),
}
TUNING = {
    **BASELINE,
    "lr x2": Variant(rate_factor=2.0),
    "lr /2": Variant(rate_factor=0.5),
    "recommended": Variant(gate={}),
    "recommended lr x2": Variant(gate={}, rate_factor=2.0),
    "recommended lr /2": Variant(gate={}, rate_factor=0.5),
}
GATE = {
    **BASELINE,
    "gate": Variant(gate={}),
    "gate + published": Variant({}, gate={}),
    "gate + high weight": Variant(HIGH, gate={}),
    "gate 4 prototypes": Variant(gate={"num_prototypes": 4}),
    "gate 8 clusters": Variant(gate={"num_clusters": 8}),
    "gate 256 clusters": Variant(gate={"num_clusters": 256}),
}
