"""Image encoders: a small one for small images, and any of timm's that yields dense features."""

import difflib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad

from baselines.mxnet import read_arrays
from baselines.resnet38 import ResNet38d, rename_released

SMALL = "small"
RESNET38 = "resnet38d"
STRIDES = (4, 8, 14, 16, 32)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a projected shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, dilation, dilation, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x: [B, in_channels, H, W] to [B, out_channels, H/stride, W/stride]."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


class SmallEncoder(nn.Module):
    """A residual encoder of stride 4 for small images, trained from scratch in minutes on a CPU.

    Attributes:
        channels: width of each level, the stem first.
        strides: image pixels per pixel of each level.
        stride: that of the last level.
    """

    channels = (24, 48, 64, 96)
    strides = (2, 4, 4, 4)
    stride = 4

    def __init__(self) -> None:
        super().__init__()
        stem, first, second, third = self.channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            [
                ResidualBlock(stem, first, stride=2),
                ResidualBlock(first, second),
                ResidualBlock(second, third, dilation=2),
            ]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels: [B, 24, H/2, W/2], then three at stride 4."""
        levels = [self.stem(image)]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        return levels

    def last_stage(self) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but one into the last."""
        return nn.Sequential(self.blocks[-1])


class TimmEncoder(nn.Module):
    """The feature levels of a timm model, the last one at `output_stride`.

    Args:
        name: name of a timm model.
        output_stride: image pixels per pixel of the last level.
        pretrained: download timm's weights.

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.
    """

    def __init__(self, name: str, output_stride: int, pretrained: bool = False) -> None:
        super().__init__()
        model = _create(name, output_stride, pretrained)
        if model is None:
            known = [str(stride) for stride in STRIDES if _create(name, stride) is not None]
            raise ValueError(
                f"encoder {name!r} has no output stride {output_stride}; it supports "
                f"{', '.join(known) if known else 'none (it has no dense features at every image size)'}"
            )
        self.model = model
        self.name = name
        self.channels: tuple[int, ...] = tuple(model.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(model.feature_info.reduction())
        self.stride = output_stride

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, h_j, w_j], the last ceil(H / stride) high."""
        height, width = image.shape[-2:]
        # Some models drop pixels that do not fill a patch, others refuse them: complete the last patch.
        return list(self.model(pad(image, (0, -width % self.stride, 0, -height % self.stride))))

    def last_stage(self) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but one into the last.

        Raises:
            ValueError: timm does not hold this model's stages as modules that run one after the other.
        """
        from timm.models import FeatureListNet

        if isinstance(self.model, FeatureListNet):
            modules = dict(self.model.items())
        else:  # EfficientNet and its kin
            blocks = getattr(self.model, "blocks", nn.Sequential())
            modules = {f"blocks_{name}": block for name, block in blocks.named_children()}
        before = self.model.feature_info.module_name()[-2].replace(".", "_")
        if before not in modules:
            raise ValueError(
                f"encoder {self.name!r} cannot be split before its last stage, as its levels come from "
                f"{type(self.model).__name__}; take one with stages in a row, such as resnet50, "
                "convnext_tiny or efficientnet_b0"
            )
        return nn.Sequential(*list(modules.values())[list(modules).index(before) + 1 :])


def _create(name: str, output_stride: int, pretrained: bool = False) -> Any:
    """timm's feature extractor at this stride, or None where the model has no such stride."""
    import timm  # here, as it imports wandb where that is installed

    dilated = {"output_stride": output_stride}
    any_size = {"dynamic_img_size": True}  # of vision transformers, whose stride is their patch
    for options in (dilated, any_size):
        try:
            model: Any = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
        except (TypeError, AssertionError, NotImplementedError):  # how timm's models refuse an option
            continue
        except Exception as error:
            if not pretrained:
                raise ValueError(f"encoder {name!r} cannot be built: {error}") from error
            raise FileNotFoundError(
                f"the pretrained weights of encoder {name!r} cannot be had: {error}; "
                "set pretrained=False, or name a local file of weights with weights=FILE"
            ) from error
        if model.feature_info.reduction()[-1] == output_stride:
            return model
    return None


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
            and for "small" (4) and "resnet38d" (8) the one they have.
        pretrained: download timm's weights. Without it nothing is read from the network.
        weights: file of weights: a state dict of the model (torch or safetensors), or a checkpoint of a
            baseline, of which the encoder is taken; for "resnet38d" also MXNet's `.params`. With it
            "resnet38d" keeps its batch normalisation and its first layers as they are.
        default_stride: output stride of timm's models where none is given.
    """
    if name in (SMALL, RESNET38):
        stride = SmallEncoder.stride if name == SMALL else ResNet38d.stride
        if output_stride not in (None, stride):
            raise ValueError(f"encoder {name!r} has no output stride {output_stride}; it supports {stride}")
        if pretrained:
            remedy = "" if name == SMALL else ", and name a local file of weights with weights=FILE"
            raise ValueError(
                f"encoder {name!r} has no pretrained weights to download; set pretrained=False{remedy}"
            )
        encoder: SmallEncoder | ResNet38d | TimmEncoder
        encoder = SmallEncoder() if name == SMALL else ResNet38d(frozen=weights is not None)
    else:
        import timm

        architecture = name.split(".")[0]
        if not timm.is_model(architecture):
            close = difflib.get_close_matches(architecture, [SMALL, RESNET38, *timm.list_models()], n=5)
            raise ValueError(
                f"unknown encoder {name!r}; {'did you mean ' + ', '.join(close) + '? ' if close else ''}"
                "It may be 'small', 'resnet38d' or any model that timm.list_models() names"
            )
        stride = default_stride if output_stride is None else output_stride
        encoder = TimmEncoder(name, stride, pretrained)
    if weights is not None:
        load_weights(encoder, Path(weights))
    return encoder


def load_weights(encoder: nn.Module, path: Path) -> None:
    """Load weights of the same architecture, from a state dict or a baseline's checkpoint, into `encoder`."""
    state = _read_state(path)
    if isinstance(encoder, ResNet38d):
        state = rename_released(state)
    prefix = "encoder." if any(key.startswith("encoder.") for key in state) else ""
    given = {_canonical(key): value for key, value in state.items() if key.startswith(prefix)}
    expected = encoder.state_dict()
    matched = {
        key: given[_canonical(key)]
        for key, value in expected.items()
        if _canonical(key) in given and given[_canonical(key)].shape == value.shape
    }
    missing = [key for key in expected if key not in matched and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"{path}: {len(matched)} of the encoder's {len(expected)} keys matched, the first without a "
            f"match is {missing[0]!r}; name the encoder that these weights were made with"
        )
    encoder.load_state_dict(matched, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or MXNet file, a torch state dict or a Lightning checkpoint."""
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights {path}; check the argument weights")
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".params":
        return read_arrays(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a file of weights; save the model's state_dict() with torch.save"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _canonical(key: str) -> str:
    """A parameter's name without prefixes of wrappers; timm's extractors turn `stages.0` into `stages_0`."""
    while key.startswith(("encoder.", "model.", "module.")):
        key = key.partition(".")[2]
    return key.replace(".", "_")
