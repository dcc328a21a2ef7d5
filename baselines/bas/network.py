"""The parts of BAS's network and the pass with frozen weights."""

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import max_pool2d


def call_frozen(module: nn.Module, inputs: Tensor) -> Tensor:
    """Call a module so that its weights get no gradient and its buffers stay as they are.

    Batch normalisation in training mode takes the statistics of these inputs and forgets them.
    """
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    outputs: Tensor = functional_call(module, {**weights, **buffers}, inputs)
    return outputs


def halve(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """A hook before a module: max-pool its input [B, L, h, w] to half the size, rounded up."""
    return max_pool2d(inputs[0], 2, ceil_mode=True)


def build_classifier(channels: int, num_classes: int, deep: bool) -> nn.Module:
    """From features of a width [B, L, h, w] to class maps [B, C, h, w]."""
    if not deep:
        return nn.Conv2d(channels, num_classes, 1, bias=False)
    width = channels // 2
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, num_classes, 1),
    )
