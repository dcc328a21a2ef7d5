"""Optimizers by name, with the poly schedule of the field."""

import difflib
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR


def check_optimizer(name: str) -> str:
    """Return the name if torch.optim has an optimizer of that name."""
    known = [
        key for key, value in vars(torch.optim).items() if isinstance(value, type) and key != "Optimizer"
    ]
    if name not in known:
        close = difflib.get_close_matches(name, known) or known
        raise ValueError(f"torch.optim has no optimizer {name!r}; did you mean {', '.join(close)}?")
    return name


def poly_factor(step: int, total: float, power: float, warmup_steps: int = 0) -> float:
    """The learning rate's factor at a step: a linear warm-up times (1 - step / total) ** power."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * max(0.0, 1 - step / total) ** power


def build_optimizer(
    name: str,
    groups: list[dict[str, Any]],
    weight_decay: float,
    total: float,
    power: float,
    warmup_steps: int,
) -> Any:
    """An optimizer and its schedule, set at every step, in the form that `configure_optimizers` returns.

    Args:
        name: name of a class in torch.optim.
        groups: parameters by learning rate.
        weight_decay: weight decay of all groups.
        total: steps of the run.
        power: power of the poly schedule; 0 keeps the learning rates constant.
        warmup_steps: steps of linear warm-up.
    """
    optimizer = getattr(torch.optim, name)(groups, weight_decay=weight_decay)
    schedule = LambdaLR(optimizer, partial(poly_factor, total=total, power=power, warmup_steps=warmup_steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
