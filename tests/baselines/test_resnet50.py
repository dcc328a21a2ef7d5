"""The ResNet-50 of IRN and AMN: its levels, its frozen parts, and torchvision's weights."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.resnet50 import ResNet50


def test_levels() -> None:
    with torch.device("meta"):
        encoder = ResNet50()
        levels = encoder(torch.zeros(2, 3, 50, 67))
    assert [tuple(level.shape) for level in levels] == [
        (2, 64, 13, 17),
        (2, 256, 13, 17),
        (2, 512, 7, 9),
        (2, 1024, 4, 5),
        (2, 2048, 4, 5),
    ]
    assert tuple(level.shape[1] for level in levels) == encoder.channels
    assert not [
        layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d) and layer.dilation != (1, 1)
    ]


def test_weights_of_torchvision(tmp_path: Path) -> None:
    source = torchvision.models.resnet50()
    torch.save(source.state_dict(), tmp_path / "resnet50.pth")
    encoder = build_encoder("resnet50_irn", weights=str(tmp_path / "resnet50.pth"))
    assert isinstance(encoder, ResNet50)
    state = encoder.state_dict()
    assert state.keys() == source.state_dict().keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in state.items())


def test_statistics_and_stem_stay() -> None:
    encoder = ResNet50().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1, weight_decay=0.1)
    levels = encoder(torch.randn(2, 3, 33, 33))
    levels[-1].square().mean().backward()
    optimizer.step()
    kept = {name for name, value in encoder.state_dict().items() if torch.equal(value, before[name])}
    statistics = {name for name in before if "running" in name or name.endswith("tracked")}
    assert kept == statistics | {"conv1.weight", "bn1.weight", "bn1.bias"}


def test_last_stage_ends_the_network() -> None:
    encoder = ResNet50()
    with torch.no_grad():
        levels = encoder(torch.randn(1, 3, 32, 32))
        torch.testing.assert_close(encoder.last_stage()(levels[-2]), levels[-1])


def test_wrong_options(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    with pytest.raises(ValueError, match="'resnet50_irn' has no output stride 8; it supports 16"):
        build_encoder("resnet50_irn", 8)
    monkeypatch.setattr(torchvision.models, "resnet50", offline)
    with pytest.raises(FileNotFoundError, match=r"'resnet50_irn' cannot be loaded: no route to host; set"):
        build_encoder("resnet50_irn", pretrained=True)
