"""The Protocol of image encoders."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fbr_plugin.errors import InputError

CHECKED = (65, 97)  # height and width of an image that no stride divides


class Encoder(Protocol):
    """An image encoder: an `nn.Module` whose `forward` maps an image of any size to feature levels.

    `encoder="my_package.MyEncoder"` builds a class of yours with `output_stride=...` if one is given, and
    without arguments otherwise. Nothing is inherited but `nn.Module`, and the images are RGB with ImageNet's
    mean and deviation.

    Attributes:
        channels: L_j, width of each level, the shallowest first.
        strides: stride_j, image pixels per pixel of each level.
        stride: that of the last level.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    stride: int

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""

    # Methods of nn.Module.
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def requires_grad_(self, requires_grad: bool) -> "Encoder": ...
    def eval(self) -> "Encoder": ...


@runtime_checkable
class SplitEncoder(Protocol):
    """An encoder that can be split before its last stages, as BAS needs it."""

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last.

        A class of yours needs `count` only where BAS makes its maps from a shallower level.
        """


def last_stage(encoder: Encoder, count: int = 1) -> nn.Sequential:
    """The modules that turn the last level but `count` of an encoder into its last.

    Raises:
        ValueError: the encoder cannot be split there.
    """
    if count == 0:
        return nn.Sequential()
    if not isinstance(encoder, SplitEncoder):
        raise InputError(
            f"{type(encoder).__name__} has no last_stage(), which returns the modules between its last two "
            "levels: define it, or take another encoder, such as resnet50"
        )
    if count == 1:
        return encoder.last_stage()
    try:
        return encoder.last_stage(count)
    except TypeError as error:
        raise InputError(
            f"{type(encoder).__name__} can be split before its last stage alone: let its last_stage take the "
            f"number of stages, here {count}, or take another encoder, such as resnet50"
        ) from error


@contextmanager
def evaluating(encoder: Encoder) -> Iterator[None]:
    """Put an encoder into evaluation mode, and each of its modules back into its own mode afterwards."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.enable_grad()
def freeze_levels(encoder: Encoder, number: int) -> None:
    """Freeze all parameters on which the first levels of an encoder depend.

    Args:
        encoder: the encoder.
        number: how many levels; 0 freezes nothing.

    Raises:
        ValueError: the encoder has no other level.
    """
    if not 0 <= number < len(encoder.channels):
        raise InputError(
            f"frozen_levels must be 0 to {len(encoder.channels) - 1}, as {type(encoder).__name__} has "
            f"{len(encoder.channels)} levels, got {number}"
        )
    if number == 0:
        return
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    with evaluating(encoder):
        level = encoder(torch.zeros(1, 3, *CHECKED))[number - 1]
    gradients = torch.autograd.grad(level.sum(), trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is None)


@torch.no_grad()
def check_encoder(encoder: Any, name: str) -> None:
    """Raise unless a module follows the Protocol `Encoder`, by the levels of one small image.

    Raises:
        ValueError: it lacks an attribute, or its levels are not those that it announces.
    """
    try:
        with evaluating(encoder):
            expected = [
                (1, width, *(-(-side // stride) for side in CHECKED))
                for width, stride in zip(encoder.channels, encoder.strides, strict=True)
            ]
            found = [tuple(level.shape) for level in encoder(torch.zeros(1, 3, *CHECKED))]
        if found != expected:
            raise InputError(
                f"for an image of {CHECKED} its levels should be {expected}, but they are {found}"
            )
        if encoder.stride != encoder.strides[-1]:
            raise InputError(f"its stride is {encoder.stride}, that of its last level {encoder.strides[-1]}")
    except Exception as error:
        raise InputError(f"encoder {name!r} does not follow the Protocol Encoder: {error}") from error
