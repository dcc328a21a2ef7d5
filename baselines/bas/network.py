"""The parts of BAS's network and the pass with frozen weights."""

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import max_pool2d


def call_frozen(module: nn.Module, inputs: Tensor) -> Tensor:
    """Call a module without gradients to its weights and without updates of its buffers.

    Batch normalisation in training mode uses the statistics of these inputs, but does not record them.
    """
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    outputs: Tensor = functional_call(module, {**weights, **buffers}, inputs)
    return outputs


def halve(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """A forward pre-hook that max-pools the input [B, L, h, w] to half the size, rounded up."""
    return max_pool2d(inputs[0], 2, ceil_mode=True)


def build_classifier(
    channels: int, num_classes: int, deep: bool, width: int | None = None, final_relu: bool = False
) -> nn.Module:
    """The layers from features [B, L, h, w] to class maps [B, C, h, w].

    Args:
        channels: L.
        num_classes: C.
        deep: three layers, of which the first two see 3x3 pixels; else one layer without bias.
        width: channels between the three layers; None takes half of L.
        final_relu: whether a ReLU follows the last of the three.
    """
    if not deep:
        return nn.Conv2d(channels, num_classes, 1, bias=False)
    width = width or channels // 2
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, num_classes, 1),
        *([nn.ReLU()] if final_relu else []),
    )
