"""Files of encoder weights, and the tensors of checkpoints from elsewhere."""

import errno
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fbr_plugin.baselines.encoders.mxnet import read_arrays
from fbr_plugin.baselines.encoders.resnet38 import ResNet38d, rename_released
from fbr_plugin.callbacks.checkpoints import check_archive
from fbr_plugin.errors import InputError, MissingFileError, short

WRAPPERS = ("state_dict", "model")  # what checkpoints call the dictionary of their tensors
_DEEPEST = 4  # dictionaries within dictionaries


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
    if path.suffix == ".params":
        return read_arrays(path)
    return read_tensors(path, "name a file of the model's state_dict(), saved by torch.save or safetensors")


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names; empty where it has none.

    Args:
        path: a file of torch or safetensors. A pickle is read without running its code.
        remedy: what to do if it cannot be read, for errors.

    Raises:
        ValueError: it is damaged or no checkpoint, or holds objects that could run code.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            check_archive(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # from a seek in a truncated file
            raise
        found = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, UnpicklingError) else None
        if found is None:
            raise InputError(
                f"{path} is damaged or not a checkpoint of torch or safetensors: {remedy}"
            ) from error
        raise InputError(
            f"{path} holds an object of {short(found[1])}, which could run code, and is not read. If you "
            'trust the file, save its tensors alone, and import those: python -c "import torch; content = '
            f"torch.load('{path}', weights_only=False); torch.save(content['state_dict'], 'tensors.pth')\", "
            "where 'state_dict' is what the file calls them"
        ) from error
    return {name: _checked(path, name, value) for name, value in _unwrapped(content).items()}


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, which may be wrapped in other dictionaries."""
    for _ in range(_DEEPEST):
        inner = (content[name] for name in WRAPPERS if isinstance(content, Mapping) and name in content)
        content = next((each for each in inner if isinstance(each, Mapping)), content)
    named = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)}


def _checked(path: Path, name: str, value: Tensor) -> Tensor:
    """A tensor of a file, which has all of its numbers and no layout that could not be copied."""
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
        raise InputError(f"{path}: {short(name)} is no dense tensor of real numbers: save it as one")
    if value.nelement() * value.element_size() > path.stat().st_size:
        raise InputError(
            f"{path}: {short(name)} has the shape {[*value.shape]}, more numbers than the file: save its "
            "tensors with .clone()"
        )
    return value


def _canonical(key: str) -> str:
    """A parameter's name without prefixes of wrappers.

    Feature extractors turn `stages.0` into `stages_0`, and released DenseNets have `norm.1` for `norm1`.
    """
    while key.startswith(("encoder.", "model.", "module.")):
        key = key.partition(".")[2]
    return re.sub(r"\b(norm|conv)\.(?=[12]\.)", r"\1", key).replace(".", "_")
