"""The class-aware gate at inference, for baselines and plain PyTorch loops."""

from collections.abc import Sequence

from torch import Tensor

from fbr_plugin import functional as fbr
from fbr_plugin.errors import InputError, InputTypeError
from fbr_plugin.modules.class_gate import ClassAwareGate


def gate_scores(
    gate: ClassAwareGate, scores: Tensor, levels: Sequence[Tensor], logits: bool = False
) -> Tensor:
    """Lower scores by the class-aware gate.

    A baseline calls its own method of this name, which does nothing without a gate; a plain PyTorch loop
    calls this function where it predicts::

        cams = gate_scores(gate, classifier(features).relu(), [features])

    Args:
        gate: a trained gate.
        scores: maps [B, n*C, h, w] that are not negative, n of each class; or logits [B, 1+C, h, w].
        levels: feature maps [B, L_j, h_j, w_j] of the same images, those that the views have as
            `gate_levels`.
        logits: scores are logits, with the background first: the gate's logarithm is added.

    Returns:
        In the shape of scores.

    Raises:
        TypeError: something else in place of the gate.
        ValueError: shapes that disagree.
    """
    if not isinstance(gate, ClassAwareGate):
        raise InputTypeError(
            f"gate_scores takes a ClassAwareGate, got {type(gate).__name__}; a baseline calls its own "
            "method, self.gate_scores(scores, levels)"
        )
    classes = gate.shape.num_classes
    channels = scores.shape[1] if scores.dim() == 4 else 0
    fits = channels == 1 + classes if logits else channels > 0 and channels % classes == 0
    if not fits or len(scores) != len(levels[0]):
        wanted = f"logits [B, {1 + classes}, h, w]" if logits else f"maps [B, {classes}, h, w]"
        raise InputError(
            f"scores must be {wanted} of the same images as the levels [{len(levels[0])}, ...], got "
            f"{tuple(scores.shape)} with logits={logits}"
        )
    if not logits and fbr.readable(scores) and (scores < 0).any():
        raise InputError("scores must not be negative, or a gate raises them: give maps after ReLU")
    values: Tensor = gate(levels, scores.shape[-2:])
    return fbr.lower_scores(scores, values, logits)
