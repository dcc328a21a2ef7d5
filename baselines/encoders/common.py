"""What the encoders of timm and torchvision share."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import pad

from fbr_plugin.errors import InputError, MissingFileError

if TYPE_CHECKING:  # it takes a second
    from torchvision.models import WeightsEnum


def aligned_levels(
    network: Callable[[Tensor], Iterable[Tensor]], image: Tensor, strides: Sequence[int]
) -> list[Tensor]:
    """The levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)] of image: [B, 3, H, W].

    Some models drop pixels that do not fill a cell of the last level, others refuse them. The network
    therefore sees the image with its last cells completed.
    """
    height, width = image.shape[-2:]
    levels = network(pad(image, (0, -width % strides[-1], 0, -height % strides[-1])))
    return [
        level[..., : -(-height // stride), : -(-width // stride)]
        for level, stride in zip(levels, strides, strict=True)
    ]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Known names that are close to an unknown one, as a question; empty without any."""
    close = difflib.get_close_matches(name, list(known), n=5)
    return f"did you mean {', '.join(close)}? " if close else ""


def no_stride(name: str, stride: int, supported: Sequence[int], otherwise: str = "none") -> InputError:
    """The error for an output stride that an encoder does not have."""
    listed = ", ".join(map(str, supported)) or otherwise
    return InputError(f"encoder {name!r} has no output stride {stride}; it supports {listed}")


def no_weights(name: str, error: Exception) -> MissingFileError:
    """The error for pretrained weights that cannot be downloaded."""
    return MissingFileError(
        f"the pretrained weights of encoder {name!r} cannot be loaded: {error}; "
        "set pretrained=False, or name a local file of weights with weights=FILE"
    )


def load_torchvision(encoder: nn.Module, name: str, weights: "WeightsEnum") -> None:
    """Download a model's weights from torchvision, and load those of its layers that the encoder has."""
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:
        raise no_weights(name, error) from error
    encoder.load_state_dict({key: state[key] for key in encoder.state_dict()})
