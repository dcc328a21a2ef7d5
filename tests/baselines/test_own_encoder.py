"""Encoders by class path: what is handed to the class, the Protocol, and what a wrong class or path says."""

import re
import sys
from pathlib import Path

import pytest
import torch
from helpers.random_data import NUM_CLASSES, RandomData

from fbr_plugin.baselines import BAS, CAM
from fbr_plugin.baselines.encoders.build import build_encoder

SOURCE = """
from torch import nn


class Mine(nn.Module):
    def __init__(self, output_stride=4):
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 12, 3, stride=output_stride // 2, padding=1)
        self.channels, self.strides, self.stride = (8, 12), (2, output_stride), output_stride
        self.encoder.eval()

    def forward(self, image):
        level = self.encoder(image)
        return [level, self.last(level)]


class Pretrained(Mine):
    def __init__(self, pretrained=False):
        super().__init__()
        self.pretrained = pretrained


class Fixed(Mine):
    def __init__(self, **options):
        super().__init__()


class NoChannels(nn.Module):
    pass


class Narrow(Mine):
    def __init__(self):
        super().__init__()
        self.channels = (8, 16)


class Coarse(Mine):
    def __init__(self):
        super().__init__()
        self.stride = 8


class Pooled(Mine):
    def __init__(self):
        super().__init__()
        self.last = nn.MaxPool2d(3, 2, 1)
        self.channels = (8, 8)

    def last_stage(self):
        return nn.Sequential(self.last)


class Broken(Mine):
    def forward(self, image):
        return [image[:, 3]]


def function():
    return 1
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `own_encoders` with encoders, and one that imports what is not there."""
    (tmp_path / "own_encoders.py").write_text(SOURCE)
    (tmp_path / "needs_more.py").write_text("import not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_encoders", raising=False)


def test_levels_arguments_and_modes() -> None:
    assert build_encoder("own_encoders.Mine").stride == 4
    encoder = build_encoder("own_encoders.Mine", 8)
    assert (encoder.channels, encoder.strides, encoder.stride) == ((8, 12), (2, 8), 8)
    modes = {name: module.training for name, module in encoder.named_modules()}
    assert modes == {"": True, "encoder": False, "last": True}
    assert build_encoder("own_encoders.Pretrained", pretrained=True).pretrained is True


def test_weights_and_training(tmp_path: Path) -> None:
    source = build_encoder("own_encoders.Mine")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = CAM(NUM_CLASSES, encoder="own_encoders.Mine", weights=str(tmp_path / "weights.pth"))
    for name, value in model.encoder.state_dict().items():
        assert value.equal(source.state_dict()[name])
    model.training_step(RandomData().batch(), 0)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.encoder.parameters())

    torch.save({"state_dict": model.state_dict()}, tmp_path / "cam.ckpt")
    again = build_encoder("own_encoders.Mine", weights=str(tmp_path / "cam.ckpt"))
    for name, value in again.state_dict().items():
        assert value.equal(source.state_dict()[name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoChannels", "does not follow the Protocol Encoder: .* no attribute 'channels'"),
        ("Narrow", r"levels should be \[\(1, 8, 33, 49\), \(1, 16, 17, 25\)\], but they are .*\(1, 12, 17"),
        ("Coarse", "its stride is 8, that of its last level 4"),
        ("Broken", "does not follow the Protocol Encoder: index 3 is out of bounds"),
        (
            "function",
            "'own_encoders.function' does not follow the Protocol Encoder: 'int' .* no attribute 'modules'",
        ),
        ("Nine", "cannot be imported: module 'own_encoders' has no attribute 'Nine'"),
    ],
)
def test_classes_that_are_no_encoders(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(f"own_encoders.{name}")


def test_arguments_that_the_class_does_not_take() -> None:
    with pytest.raises(ValueError, match=r"cannot be built with \{'pretrained': True\}: .*'pretrained'"):
        build_encoder("own_encoders.Mine", pretrained=True)
    with pytest.raises(ValueError, match=r"cannot be built with \{'output_stride': 8\}: .*'output_stride'"):
        build_encoder("own_encoders.Pretrained", 8)
    with pytest.raises(ValueError, match=r"'own_encoders.Fixed' has no output stride 8; it supports 4"):
        build_encoder("own_encoders.Fixed", 8)


def test_paths_that_cannot_be_imported() -> None:
    with pytest.raises(ValueError, match=r"'nowhere\.Mine' cannot be imported: No module named 'nowhere'"):
        build_encoder("nowhere.Mine")
    with pytest.raises(ValueError, match=r"did you mean .*resnet18.* in the working folder or installed"):
        build_encoder("resnet_18.Mine")
    with pytest.raises(ValueError, match="cannot be imported: No module named 'not_installed'"):
        build_encoder("needs_more.Mine")


def test_the_example_in_the_settings(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    (example,) = re.findall(r"```python\n(from torch import nn\n\nclass MyEncoder.*?)```", page, re.S)
    (tmp_path / "example_encoder.py").write_text(example)
    model = BAS(NUM_CLASSES, encoder="example_encoder.MyEncoder")
    assert model.training_step(RandomData().batch(), 0)["loss"].isfinite()


def test_bas_needs_an_encoder_that_can_be_split() -> None:
    with pytest.raises(ValueError, match=r"Mine has no last_stage\(\), .* such as resnet50"):
        BAS(NUM_CLASSES, encoder="own_encoders.Mine")
    with pytest.raises(
        ValueError, match=r"'own_encoders.Pooled' only pools after its level -2, .* generator_level=-3"
    ):
        BAS(NUM_CLASSES, encoder="own_encoders.Pooled")
