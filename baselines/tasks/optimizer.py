"""Optimizers by name, with the usual poly schedule."""

import difflib
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from fbr_plugin.errors import InputError


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of an optimizer and of its learning rates.

    Args:
        name: name of a class in torch.optim.
        lr: learning rate of the encoder.
        head_lr: learning rate of the new layers.
        poly_power: power of the decay (1 - step / steps) ** power; 0 keeps the learning rates constant.
        poly_every: steps between two updates of this decay; deeplab-pytorch's schedule has 10.
        weight_decay: weight decay of all layers.
        warmup_steps: steps of linear warm-up of the learning rates.
        momentum: of SGD; other optimizers do not take it.

    Raises:
        ValueError: the optimizer is unknown or a value is out of range; the message names it and the remedy.
    """

    name: str = "SGD"
    lr: float = 0.1
    head_lr: float = 1.0
    poly_power: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 0
    momentum: float = 0.0
    poly_every: int = 1

    def __post_init__(self) -> None:
        classes = (key for key, value in vars(torch.optim).items() if isinstance(value, type))
        known = [key for key in classes if key != "Optimizer"]
        if self.name not in known:
            close = difflib.get_close_matches(self.name, known) or known
            raise InputError(f"torch.optim has no optimizer {self.name!r}; did you mean {', '.join(close)}?")
        for name, value in vars(self).items():
            if name != "name" and not 0 <= value < float("inf"):
                raise InputError(f"{name} must be a finite number of at least 0, got {value}")
        if self.poly_every < 1:
            raise InputError(f"poly_every must be at least 1 step, got {self.poly_every}")

    def build(self, groups: list[dict[str, Any]], total: float) -> Any:
        """An optimizer and its per-step schedule, in the form that `configure_optimizers` returns.

        Args:
            groups: parameters by learning rate.
            total: steps of the run.
        """
        own = {"momentum": self.momentum} if self.name == "SGD" else {}
        optimizer = vars(torch.optim)[self.name](groups, weight_decay=self.weight_decay, **own)
        factor = partial(
            poly_factor,
            total=total,
            power=self.poly_power,
            warmup_steps=self.warmup_steps,
            every=self.poly_every,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
        }


def poly_factor(step: int, total: float, power: float, warmup_steps: int = 0, every: int = 1) -> float:
    """The learning rate's factor at a step: a linear warm-up times (1 - step / total) ** power.

    The power is that of the last step whose number is a multiple of `every`.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * math.pow(max(0.0, 1 - (step - step % every) / total), power)
