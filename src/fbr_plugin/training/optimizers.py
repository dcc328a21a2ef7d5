"""FBR's parameters in the optimizers that a baseline configures, whatever form it returns them in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer


def find_optimizers(configured: Any) -> Iterator[Optimizer]:
    """Yield the optimizers among what `configure_optimizers` returns."""
    if isinstance(configured, Optimizer):
        yield configured
    elif isinstance(configured, Mapping):
        yield from find_optimizers(configured.get("optimizer"))
    elif isinstance(configured, Sequence):
        for each in configured:
            yield from find_optimizers(each)


def add_parameters(configured: Any, parameters: Sequence[nn.Parameter]) -> None:
    """Add those parameters that no optimizer has to the first optimizer: to its last group with weights.

    A group of their own would break optimizers and schedules that keep a list of one entry for each group,
    such as the field's PolyOptimizer. The last group is by custom that of the new layers; where biases have
    groups of their own, with twice the learning rate and at times no weight decay, those of the biases are
    passed over.

    Args:
        configured: what `configure_optimizers` returned.
        parameters: FBR's trained parameters.
    """
    optimizers = list(find_optimizers(configured))
    known = {
        id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]
    }
    if optimizers:
        groups = [group["params"] for group in optimizers[0].param_groups]
        weights = [group for group in groups if any(each.dim() > 1 for each in group)]
        (weights or groups)[-1].extend(each for each in parameters if id(each) not in known)
