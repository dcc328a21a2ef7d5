"""ResNet-38d with a sixteenth of its channels, and the weights by a rule of networks built on it."""

from pathlib import Path
from typing import Any

from helpers.weights_by_name import fix_weights
from safetensors.torch import load_file
from torch import Tensor, nn

from fbr_plugin.baselines.encoders.resnet38 import ResNet38d
from fbr_plugin.baselines.tasks.encoder_task import EncoderTask

REFERENCE = Path(__file__).parents[1] / "reference"


class Narrow(ResNet38d):
    """The same network with 4 channels where it has 64."""

    width = 4


def with_fixed_weights(model: EncoderTask) -> Any:
    """Give a baseline on resnet38d the narrow, frozen encoder, fixed weights, and no dropout in the head."""
    model.encoder = Narrow(frozen=True)
    fix_weights(model.encoder, "encoder.")
    fix_weights(model.head, "head.")
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return model


def reference(name: str) -> dict[str, Tensor]:
    """What the released code computes with the same weights and inputs."""
    return load_file(REFERENCE / f"{name}.safetensors")
