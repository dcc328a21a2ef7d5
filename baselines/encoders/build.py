"""Image encoders by name: ours, those of timm and torchvision, and classes of yours."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from fbr_plugin.baselines.encoders.common import did_you_mean, no_stride
from fbr_plugin.baselines.encoders.protocol import Encoder, check_encoder
from fbr_plugin.baselines.encoders.resnet38 import ResNet38d
from fbr_plugin.baselines.encoders.resnet50 import ResNet50
from fbr_plugin.baselines.encoders.resnet101 import ResNet101
from fbr_plugin.baselines.encoders.small import SMALL, SmallEncoder
from fbr_plugin.baselines.encoders.timm_encoder import TimmEncoder
from fbr_plugin.baselines.encoders.torchvision_encoder import PREFIX, TorchvisionEncoder
from fbr_plugin.baselines.encoders.weights import load_weights
from fbr_plugin.errors import InputError

RESNET38 = "resnet38d"
RESNET50 = "resnet50_irn"
RESNET101 = "resnet101_deeplab"
STRIDES = {  # of our own
    SMALL: SmallEncoder.stride,
    RESNET38: ResNet38d.stride,
    RESNET50: ResNet50.stride,
    RESNET101: ResNet101.stride,
}


def build_encoder(
    name: str,
    output_stride: int | None = None,
    pretrained: bool = False,
    weights: str | None = None,
    default_stride: int = 16,
) -> Encoder:
    """Build an encoder, which maps images to a list of feature levels.

    Args:
        name: "small" for `SmallEncoder`, "resnet38d" for `ResNet38d`, "resnet50_irn" for `ResNet50`,
            "resnet101_deeplab" for `ResNet101`, the name of a timm model with `features_only`,
            "torchvision/NAME" for a model of torchvision, or the class path of an `Encoder`.
        output_stride: image pixels per pixel of the last level; None takes `default_stride` for models of
            timm and torchvision, and an encoder's own otherwise ("small" 4, "resnet50_irn" 16,
            "resnet38d" and "resnet101_deeplab" 8).
        pretrained: download the weights of timm or torchvision. Without it, nothing is downloaded.
        weights: file of weights: a state dict of the model (torch or safetensors), or a checkpoint of a
            baseline, whose encoder is loaded; for "resnet38d" also MXNet's `.params`, and then its batch
            normalisation and its first layers are frozen.
        default_stride: output stride of models of timm and torchvision if none is given.

    Raises:
        ValueError: an unknown name, an output stride that the encoder does not have, weights of another
            encoder, or a class that does not follow the Protocol.
        FileNotFoundError: weights that do not exist or cannot be downloaded.
    """
    stride = default_stride if output_stride is None else output_stride
    built: Any
    if name in STRIDES:
        built = build_ours(name, output_stride, pretrained, weights is not None)
    elif name.startswith(PREFIX):
        built = TorchvisionEncoder(name, stride, pretrained)
    elif is_timm(name):
        built = TimmEncoder(name, stride, pretrained)
    else:
        built = build_class(name, output_stride, pretrained)
    if weights is not None:
        load_weights(built, Path(weights))
    encoder: Encoder = built
    return encoder


def build_ours(
    name: str, output_stride: int | None, pretrained: bool, frozen: bool
) -> SmallEncoder | ResNet38d | ResNet50 | ResNet101:
    """Build an encoder of this package, each with one output stride; `frozen` is that of `ResNet38d`."""
    if output_stride not in (None, STRIDES[name]):
        raise no_stride(name, output_stride, [STRIDES[name]])
    if name == RESNET50:
        return ResNet50(pretrained)
    if pretrained:
        remedy = "" if name == SMALL else ", and name a local file of weights with weights=FILE"
        raise InputError(
            f"encoder {name!r} has no pretrained weights to download; set pretrained=False{remedy}"
        )
    if name == RESNET101:
        return ResNet101()
    return SmallEncoder() if name == SMALL else ResNet38d(frozen)


def is_timm(name: str) -> bool:
    """Whether timm has a model of this name, of which what follows a dot is the tag of its weights."""
    import timm  # here, as it imports wandb where that is installed

    return bool(timm.is_model(name.split(".")[0]))


def build_class(path: str, output_stride: int | None, pretrained: bool) -> Any:
    """Build an encoder from its class path, with those of the arguments that are given."""
    import timm

    module, _, kind = path.rpartition(".")
    hint = did_you_mean(path, [*STRIDES, *timm.list_models()])
    if not module:
        raise InputError(
            f"unknown encoder {path!r}; {hint}It may be {', '.join(map(repr, STRIDES))}, any model "
            "that timm.list_models() names, torchvision/NAME or the class path of an encoder"
        )
    try:
        found = resolve_name(f"{module}:{kind}")
    except Exception as error:
        raise InputError(
            f"encoder {path!r} cannot be imported: {error}; {hint}The module of a class path is in the "
            "working folder or installed"
        ) from error
    options = {"output_stride": output_stride, "pretrained": pretrained or None}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        encoder = found(**given)
    except TypeError as error:
        raise InputError(
            f"encoder {path!r} cannot be built with {given or 'no arguments'}: {error}; "
            "output_stride and pretrained are handed on where they are set"
        ) from error
    check_encoder(encoder, path)
    if output_stride not in (None, encoder.stride):
        raise no_stride(path, output_stride, [encoder.stride])
    return encoder
