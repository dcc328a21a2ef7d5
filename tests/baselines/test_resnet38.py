"""ResNet-38d: its levels, its frozen parts, and the released files of its weights."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fbr_plugin.baselines.encoders import build
from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.mxnet import read_arrays
from fbr_plugin.baselines.encoders.resnet38 import ResNet38d, rename_released

KINDS = {"norms": "bn", "convs": "res"}
SUFFIXES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}


class Narrow(ResNet38d):
    """The same network with 4 channels where it has 64."""

    width = 4


def released(name: str, mxnet: bool) -> str:
    """Our name of a weight as the released files have it."""
    parts = name.split(".")
    if parts[0] == "stem":
        return "arg:conv1a_weight" if mxnet else "conv1a.weight"
    role = "aux:" if parts[-1].startswith("running") else "arg:"
    if parts[1] == "norm":
        return f"{role}bn7_{SUFFIXES[parts[-1]]}" if mxnet else f"bn7.{parts[-1]}"
    if parts[0] == "stages":
        first = parts[2] == "first"
        stage, block, layer = int(parts[1]) + 2, 0 if first else int(parts[3]) + 1, parts[4 - first :]
    else:
        stage, block, layer = {"first": 6, "second": 7}[parts[1]], 0, parts[2:]
    branch = "branch1" if layer[0] == "shortcut" else f"branch{['2a', '2b1', '2b2'][int(layer[1])]}"
    kind = KINDS.get(layer[0], "res")
    if mxnet:
        suffix = "weight" if kind == "res" else SUFFIXES[layer[-1]]
        return f"{role}{kind}{stage}{f'b{block}' if block else 'a'}_{branch}_{suffix}"
    return f"b{stage}{f'_{block}' if block else ''}.{kind.replace('res', 'conv')}_{branch}.{layer[-1]}"


def array(values: Tensor, version: int) -> bytes:
    """A float32 array as MXNet's first, second or third form of it."""
    if version == 0:
        head = struct.pack(f"<I{values.dim()}I", values.dim(), *values.shape)
    else:
        head = struct.pack("<I", 0xF993FAC7 + version) + (struct.pack("<i", 0) if version == 2 else b"")
        head += struct.pack(f"<I{values.dim()}q", values.dim(), *values.shape)
    return head + struct.pack("<iii", 1, 0, 0) + values.numpy().astype("<f4").tobytes()


def write_arrays(path: Path, arrays: dict[str, Tensor], version: int = 0) -> None:
    """Write arrays as MXNet's file."""
    content = struct.pack("<QQQ", 0x112, 0, len(arrays))
    content += b"".join(array(values, version) for values in arrays.values())
    content += struct.pack("<Q", len(arrays))
    content += b"".join(struct.pack("<Q", len(name)) + name.encode() for name in arrays)
    path.write_bytes(content)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model without its counters."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith("batches_tracked")}


def test_the_full_network() -> None:
    with torch.device("meta"):
        model = ResNet38d()
        levels = model(torch.zeros(2, 3, 50, 67))
    assert [tuple(level.shape) for level in levels] == [
        (2, 256, 13, 17),
        (2, 512, 7, 9),
        (2, 1024, 7, 9),
        (2, 4096, 7, 9),
    ]
    assert tuple(level.shape[1] for level in levels) == model.channels
    assert sum(parameter.numel() for parameter in model.parameters()) == 105_070_912
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 43


def test_last_stage_ends_the_network() -> None:
    model = Narrow().eval()
    levels = model(torch.randn(1, 3, 32, 32))
    torch.testing.assert_close(model.last_stage()(levels[-2]), levels[-1])


def test_frozen_parts_stay() -> None:
    model = Narrow(frozen=True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(2, 3, 32, 32))[-1].mean().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    convolutions = {name for name in before if "conv" in name or "shortcut" in name}
    assert changed == {name for name in convolutions if not name.startswith("stages.0.")}
    assert Narrow().train().tail.norm.training


@pytest.mark.parametrize("version", [0, 1, 2])
def test_arrays_of_mxnet(version: int, tmp_path: Path) -> None:
    arrays = {"arg:a": torch.randn(2, 3, 1, 1), "aux:b_moving_mean": torch.randn(4)}
    write_arrays(tmp_path / "some.params", arrays, version)
    read = read_arrays(tmp_path / "some.params")
    assert read.keys() == arrays.keys()
    assert all(torch.equal(read[name], value) for name, value in arrays.items())


def test_types_and_shapes_of_mxnet(tmp_path: Path) -> None:
    content = struct.pack("<QQQ", 0x112, 0, 2)
    content += struct.pack("<II", 1, 3) + struct.pack("<iii", 1, 0, 2)
    content += np.array([1, 2, 3], "<f2").tobytes()
    content += struct.pack("<IiI", 0xF993FAC9, 0, 0)
    content += struct.pack("<QQ1sQ1s", 2, 1, b"h", 1, b"n")
    (tmp_path / "some.params").write_bytes(content)
    read = read_arrays(tmp_path / "some.params")
    assert read["h"].dtype == torch.float16
    assert read["h"].tolist() == [1, 2, 3]
    assert read["n"].shape == (0,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK", "it ends 22 bytes too early"),
        (struct.pack("<QQQ", 7, 0, 0), "it begins with 0x7, not 0x112"),
        (struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<Ii", 0xF993FAC9, 1), "the storage type 1"),
        (struct.pack("<QQQIIiii", 0x112, 0, 1, 1, 1, 1, 0, 9), "unknown element type 9"),
        (struct.pack("<QQQIIiii", 0x112, 0, 1, 1, 8, 1, 0, 0), "it ends 32 bytes too early"),
    ],
)
def test_damaged_arrays(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.params").write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad.params cannot be read as MXNet's arrays: .*{message}"):
        read_arrays(tmp_path / "bad.params")


def test_every_released_name_is_ours() -> None:
    with torch.device("meta"):
        state = weights_of(ResNet38d())
    for mxnet in (True, False):
        names = {released(name, mxnet): value for name, value in state.items()}
        assert len(names) == len(state) == 191
        assert rename_released(names).keys() == state.keys()
    assert list(rename_released({"arg:linear1000_weight": torch.zeros(1)})) == ["arg:linear1000_weight"]


@pytest.mark.parametrize("file", ["ilsvrc.params", "seam.pth"])
def test_released_weights_make_a_frozen_encoder(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "ResNet38d", Narrow)
    source, path = Narrow(), tmp_path / file
    state = {released(name, file != "seam.pth"): value for name, value in weights_of(source).items()}
    if file == "seam.pth":
        torch.save({**state, "fc8.weight": torch.zeros(21, 256, 1, 1)}, path)
    else:
        write_arrays(path, {**state, "arg:linear1000_weight": torch.zeros(10, 256)})
    encoder = build_encoder("resnet38d", weights=str(path))
    assert isinstance(encoder, Narrow)
    assert encoder.frozen
    for name, value in weights_of(source).items():
        assert torch.equal(encoder.state_dict()[name], value), name


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="'resnet38d' has no output stride 16; it supports 8"):
        build_encoder("resnet38d", 16)
    with pytest.raises(ValueError, match=r"'resnet38d' has no pretrained weights .* weights=FILE"):
        build_encoder("resnet38d", pretrained=True)
