"""How the demo and the benchmarks train: an encoder from scratch, or a pretrained one that is fine-tuned."""

from typing import Any, NamedTuple


class Recipe(NamedTuple):
    """Optimizers and training steps.

    Attributes:
        cam_optimizer: fields of the CAM's optimizer that differ from its own.
        optimizer: the same of the baseline's.
        cam_steps: training steps of the CAM.
        steps: training steps of the baseline, which starts from the CAM's encoder.
    """

    cam_optimizer: dict[str, Any]
    optimizer: dict[str, Any]
    cam_steps: int
    steps: int


ADAMW = {"name": "AdamW", "poly_power": 0.9, "warmup_steps": 20}
FROM_SCRATCH = Recipe(
    {**ADAMW, "lr": 3e-3, "head_lr": 3e-3, "weight_decay": 1e-3},
    {**ADAMW, "lr": 5e-4, "head_lr": 1e-3},
    cam_steps=500,
    steps=150,
)
# Higher learning rates would spoil the encoder.
FINE_TUNED = Recipe(
    {**ADAMW, "lr": 2e-4, "head_lr": 2e-3}, {**ADAMW, "lr": 1e-4, "head_lr": 1e-3}, cam_steps=250, steps=120
)
FINE_TUNED_CROP = 128


def recipe(pretrained: bool) -> Recipe:
    """The recipe for an encoder with or without pretrained weights."""
    return FINE_TUNED if pretrained else FROM_SCRATCH
