"""The dense features of torchvision's classification models."""

import math
from collections import OrderedDict
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fbr_plugin.baselines.encoders.common import aligned_levels, did_you_mean, no_stride, no_weights
from fbr_plugin.errors import InputError

PREFIX = "torchvision/"
HEADS = ("avgpool", "classifier", "fc")  # where the trunk of a model ends
TRACED = (256, 384)  # height and width of the image that is traced
Window = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d


class TorchvisionEncoder(nn.Module):
    """The feature levels of a torchvision model: the last output of its trunk at each stride.

    Strides beyond `output_stride` become dilation: a pooling there has stride 1 and an odd window, as in
    DeepLab's VGG, and later convolutions are dilated. A strided layer that would drop pixels at the border,
    such as the first of SqueezeNet, is padded.

    Args:
        name: "torchvision/" and the name of a model whose trunk is a sequence of layers.
        output_stride: image pixels per pixel of the last level.
        pretrained: download torchvision's default weights.

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.

    Raises:
        ValueError: an unknown model, one without dense features, or one without this output stride.
        FileNotFoundError: the pretrained weights cannot be downloaded.
    """

    def __init__(self, name: str, output_stride: int, pretrained: bool = False) -> None:
        super().__init__()
        self.model = trunk(create_model(name, pretrained)).eval()
        try:
            seen = trace(self.model)
            outputs = [seen[layer][1] for layer in self.model]
            strides = [stride_of(output) for output in outputs]
            before = {layer: stride_of(seen[layer][0]) for layer in windows(self.model)}
        except Exception as error:
            raise InputError(
                f"encoder {name!r} has no dense features, as it is not a sequence of convolutional layers; "
                "take one such as torchvision/resnet50 or torchvision/convnext_tiny"
            ) from error
        if output_stride not in strides:
            raise no_stride(name, output_stride, sorted(set(strides)))
        for layer, stride in before.items():
            adapt(layer, stride, output_stride)
        self.ends = [index for index, (own, after) in enumerate(pairwise([*strides, 0])) if own != after]
        self.channels: tuple[int, ...] = tuple(outputs[end].shape[1] for end in self.ends)
        self.strides: tuple[int, ...] = tuple(min(strides[end], output_stride) for end in self.ends)
        self.stride = output_stride
        self.train()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""
        return aligned_levels(self._levels, image, self.strides)

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last."""
        return self.model[self.ends[-1 - count] + 1 :]

    def _levels(self, image: Tensor) -> list[Tensor]:
        outputs = [image]
        for layer in self.model:
            outputs.append(layer(outputs[-1]))
        return [outputs[1 + end] for end in self.ends]


def create_model(name: str, pretrained: bool) -> nn.Module:
    """A model of torchvision, with its default weights if `pretrained`."""
    from torchvision import models  # here, as it takes a second

    own, known = name.removeprefix(PREFIX), models.list_models(module=models)
    if own not in known:
        raise InputError(
            f"unknown encoder {name!r}; {did_you_mean(name, (PREFIX + each for each in known))}"
            "It may be any model that torchvision.models.list_models() names"
        )
    try:
        model: nn.Module = models.get_model(own, weights="DEFAULT" if pretrained else None)
    except Exception as error:
        raise no_weights(name, error) from error
    return model


def trunk(model: nn.Module) -> nn.Sequential:
    """The layers of a model up to its pooling or classifier, named as in its state dict."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in model.named_children():
        if name in HEADS:
            break
        if isinstance(child, nn.Sequential):
            layers |= {f"{name}_{own}": layer for own, layer in child.named_children()}
        else:
            layers[name] = child
    return nn.Sequential(layers)


def trace(layers: nn.Sequential) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    """Input and output, on the meta device, of every layer and of all windows within it."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[layer] = inputs[0], output

    handles = [layer.register_forward_hook(note) for layer in (*layers, *windows(layers))]
    try:
        weights = {name: value.to("meta") for name, value in layers.state_dict().items()}
        functional_call(layers, weights, torch.empty(1, 3, *TRACED, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def windows(layers: nn.Module) -> list[Window]:
    """The convolutions and poolings that see more than one pixel, or leave out some."""
    found = (layer for layer in layers.modules() if isinstance(layer, Window))
    return [layer for layer in found if first(layer.kernel_size) > 1 or first(layer.stride) > 1]


def stride_of(level: Tensor) -> int:
    """Pixels of the traced image per pixel of a level [1, L, h, w], whose border may be incomplete."""
    sides = zip(TRACED, level.shape[2:], strict=True)
    down, across = (2 ** round(math.log2(image / own)) for image, own in sides)
    if down != across:
        raise ValueError(f"strides {down} and {across}")
    return int(down)


def adapt(layer: Window, stride_before: int, output_stride: int) -> None:
    """Make a layer yield complete cells, and none of a stride beyond the output's.

    Args:
        layer: a convolution or pooling.
        stride_before: the stride of its input in the network as it was.
        output_stride: the largest stride.
    """
    kernel, stride, padding = first(layer.kernel_size), first(layer.stride), first(layer.padding)
    rounds_up = not isinstance(layer, nn.Conv2d) and layer.ceil_mode
    if stride > 1 and stride_before * stride <= output_stride:
        if 2 * padding < kernel - stride and not rounds_up:
            layer.padding = ((kernel - 1) // 2,) * 2
    elif isinstance(layer, nn.Conv2d):
        rate = max(1, stride_before // output_stride)
        layer.stride, layer.dilation, layer.padding = (1, 1), (rate, rate), "same"
    else:
        layer.stride, layer.kernel_size, layer.padding = 1, kernel | 1, kernel // 2
        if isinstance(layer, nn.AvgPool2d):
            layer.count_include_pad = False


def first(value: Any) -> int:
    """A side of a window, which torch keeps as one number or as two."""
    return int(value if isinstance(value, int) else value[0])
