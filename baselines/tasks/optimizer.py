"""Optimizers by name, with poly and step schedules."""

import difflib
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
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
        nesterov: whether SGD's momentum is Nesterov's.
        bias_lr: learning rate of biases as a multiple of their layer's; 0 does not train them.
        decay_epochs: the learning rates are divided by 10 after each so many epochs; 0 for never.
        poly_runs: length of the poly decay as a multiple of the run's. BAS was published with 4: its script
            for several GPUs counts the steps of one.

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
    nesterov: bool = False
    bias_lr: float = 1.0
    decay_epochs: int = 0
    poly_runs: float = 1.0

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
        if self.poly_runs < 1:
            raise InputError(f"poly_runs must be at least 1, the length of the run, got {self.poly_runs}")
        if self.nesterov and not (self.name == "SGD" and self.momentum > 0):
            raise InputError(
                f"nesterov is for SGD with a momentum above 0, got {self.name} with momentum={self.momentum}"
            )

    def groups(self, parameters: Iterable[tuple[str, nn.Parameter]], lr: float) -> list[dict[str, Any]]:
        """Parameters by name in groups of one learning rate: the weights and, if theirs differs, the biases.

        Args:
            parameters: names and parameters.
            lr: learning rate of the weights.
        """
        named = list(parameters)
        if self.bias_lr == 1:
            return [{"params": [value for _, value in named], "lr": lr}]
        biases = [value for name, value in named if name.endswith("bias")]
        weights = [value for name, value in named if not name.endswith("bias")]
        pairs = [(weights, lr), (biases, self.bias_lr * lr)]
        return [{"params": values, "lr": rate} for values, rate in pairs if values]

    def build(self, groups: list[dict[str, Any]], total: float, epoch: float = math.inf) -> Any:
        """An optimizer and its per-step schedule, in the form that `configure_optimizers` returns.

        Args:
            groups: parameters by learning rate.
            total: steps of the run.
            epoch: steps of an epoch.
        """
        if not total >= 1:
            raise InputError(f"the run has {total} steps: raise the Trainer's max_steps or max_epochs")
        if not any(group["lr"] for group in groups):
            warnings.warn("all learning rates are 0: nothing is trained; set lr and head_lr", stacklevel=2)
        own = {"momentum": self.momentum, "nesterov": self.nesterov} if self.name == "SGD" else {}
        optimizer = vars(torch.optim)[self.name](groups, weight_decay=self.weight_decay, **own)

        def factor(step: int) -> float:
            total_poly = total * self.poly_runs
            poly = poly_factor(step, total_poly, self.poly_power, self.warmup_steps, self.poly_every)
            decays = step // (self.decay_epochs * epoch) if self.decay_epochs else 0
            return float(poly * 0.1**decays)

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
