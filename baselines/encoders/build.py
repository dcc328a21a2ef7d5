"""Image encoders: a small one for small images, and any of timm's that yields dense features."""

import difflib
from pathlib import Path

from fbr_plugin.baselines.encoders.resnet38 import ResNet38d
from fbr_plugin.baselines.encoders.small import SMALL, SmallEncoder
from fbr_plugin.baselines.encoders.timm_encoder import TimmEncoder
from fbr_plugin.baselines.encoders.weights import load_weights
from fbr_plugin.errors import InputError

RESNET38 = "resnet38d"


def build_encoder(
    name: str,
    output_stride: int | None = None,
    pretrained: bool = False,
    weights: str | None = None,
    default_stride: int = 16,
) -> SmallEncoder | ResNet38d | TimmEncoder:
    """Build an encoder whose forward maps images to a list of feature levels.

    Args:
        name: "small" for `SmallEncoder`, "resnet38d" for `ResNet38d`, else the name of a timm model with
            `features_only`.
        output_stride: image pixels per pixel of the last level; None takes `default_stride` for timm's,
            and the fixed strides of "small" (4) and "resnet38d" (8).
        pretrained: download timm's weights. Without it, nothing is downloaded.
        weights: file of weights: a state dict of the model (torch or safetensors), or a checkpoint of a
            baseline, whose encoder is loaded; for "resnet38d" also MXNet's `.params`, and then its batch
            normalisation and its first layers are frozen.
        default_stride: output stride of timm's models if none is given.
    """
    if name in (SMALL, RESNET38):
        stride = SmallEncoder.stride if name == SMALL else ResNet38d.stride
        if output_stride not in (None, stride):
            raise InputError(f"encoder {name!r} has no output stride {output_stride}; it supports {stride}")
        if pretrained:
            remedy = "" if name == SMALL else ", and name a local file of weights with weights=FILE"
            raise InputError(
                f"encoder {name!r} has no pretrained weights to download; set pretrained=False{remedy}"
            )
        encoder: SmallEncoder | ResNet38d | TimmEncoder
        encoder = SmallEncoder() if name == SMALL else ResNet38d(frozen=weights is not None)
    else:
        import timm

        architecture = name.split(".")[0]
        if not timm.is_model(architecture):
            close = difflib.get_close_matches(architecture, [SMALL, RESNET38, *timm.list_models()], n=5)
            raise InputError(
                f"unknown encoder {name!r}; {'did you mean ' + ', '.join(close) + '? ' if close else ''}"
                "It may be 'small', 'resnet38d' or any model that timm.list_models() names"
            )
        stride = default_stride if output_stride is None else output_stride
        encoder = TimmEncoder(name, stride, pretrained)
    if weights is not None:
        load_weights(encoder, Path(weights))
    return encoder
