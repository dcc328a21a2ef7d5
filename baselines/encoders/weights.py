"""Files of encoder weights."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fbr_plugin.baselines.encoders.mxnet import read_arrays
from fbr_plugin.baselines.encoders.resnet38 import ResNet38d, rename_released
from fbr_plugin.errors import InputError, MissingFileError


def load_weights(encoder: nn.Module, path: Path) -> None:
    """Load weights of the same architecture, from a state dict or a baseline's checkpoint, into `encoder`."""
    state = _read_state(path)
    if isinstance(encoder, ResNet38d):
        state = rename_released(state)
    expected = encoder.state_dict()
    required = [key for key in expected if not key.endswith("num_batches_tracked")]
    if not all(key in state for key in required):
        prefix = "encoder." if any(key.startswith("encoder.") for key in state) else ""
        given = {_canonical(key): value for key, value in state.items() if key.startswith(prefix)}
        state = {key: given[_canonical(key)] for key in expected if _canonical(key) in given}
    matched = {
        key: state[key] for key in expected if key in state and state[key].shape == expected[key].shape
    }
    missing = [key for key in required if key not in matched]
    if missing:
        raise InputError(
            f"{path}: {len(matched)} of the encoder's {len(expected)} keys matched, the first without a "
            f"match is {missing[0]!r}; name the encoder that these weights were made with"
        )
    encoder.load_state_dict(matched, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or MXNet file, a torch state dict or a Lightning checkpoint."""
    if not path.is_file():
        raise MissingFileError(f"weights={path} does not exist; check the path")
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".params":
        return read_arrays(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as a file of weights; save the model's state_dict() with torch.save"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _canonical(key: str) -> str:
    """A parameter's name without prefixes of wrappers.

    Feature extractors turn `stages.0` into `stages_0`, and released DenseNets have `norm.1` for `norm1`.
    """
    while key.startswith(("encoder.", "model.", "module.")):
        key = key.partition(".")[2]
    return re.sub(r"\b(norm|conv)\.(?=[12]\.)", r"\1", key).replace(".", "_")
