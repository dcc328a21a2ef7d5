"""Encoders: levels, strides, weights from files, and what a wrong name or stride says."""

from pathlib import Path

import pytest
import timm
import torch

from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.small import SmallEncoder


def test_small_levels() -> None:
    encoder = build_encoder("small")
    levels = encoder(torch.randn(2, 3, 32, 48))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (24, 16, 24),
        (48, 8, 12),
        (64, 8, 12),
        (96, 8, 12),
    ]
    assert tuple(level.shape[1] for level in levels) == encoder.channels
    assert encoder.stride == 4


@pytest.mark.parametrize(
    ("name", "stride"),
    [("resnet18", 16), ("resnet18", 8), ("test_vit", 16), ("test_convnext", 16), ("test_efficientnet", 8)],
)
def test_timm_levels_have_the_stride_asked_for(name: str, stride: int) -> None:
    encoder = build_encoder(name, stride).eval()
    with torch.no_grad():
        levels = encoder(torch.randn(1, 3, 50, 70))
    assert tuple(level.shape[1] for level in levels) == encoder.channels
    assert encoder.stride == stride
    for level, own in zip(levels, encoder.strides, strict=True):
        assert level.shape[-2:] == (-(-50 // own), -(-70 // own))


def test_levels_of_a_vision_transformer_come_from_all_of_its_depth() -> None:
    image, model = torch.randn(1, 3, 160, 160), timm.create_model("test_vit", dynamic_img_size=True).eval()
    encoder = build_encoder("test_vit", 16).eval()
    encoder.load_state_dict({f"model.model.{key}": value for key, value in model.state_dict().items()}, False)
    with torch.no_grad():
        blocks = model.forward_intermediates(image, intermediates_only=True)
        for level, block in zip(encoder(image), (0, 2, 3, 5), strict=True):
            torch.testing.assert_close(level, blocks[block])


def test_unknown_name_lists_close_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown encoder 'resnet1.'; did you mean .*resnet18"):
        build_encoder("resnet1x")
    with pytest.raises(ValueError, match=r"Invalid pretrained tag \(nosuch\)"):
        build_encoder("resnet18.nosuch")


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("resnet18", 4, "'resnet18' has no output stride 4; it supports 8, 16, 32"),
        ("test_vit", 8, "supports 16"),
        ("mixer_s16_224", 16, "supports none"),
        ("small", 16, "supports 4"),
    ],
)
def test_unsupported_stride_lists_the_supported(name: str, stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(name, stride)


def test_pretrained_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        FileNotFoundError, match="no route to host; set pretrained=False, or name a local file"
    ) as caught:
        build_encoder("resnet18", pretrained=True)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ValueError, match="'small' has no pretrained weights"):
        build_encoder("small", pretrained=True)


@pytest.mark.parametrize("name", ["resnet18", "test_convnext", "test_vit"])
def test_weights_of_the_plain_timm_model(name: str, tmp_path: Path) -> None:
    source = timm.create_model(name)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    encoder = build_encoder(name, weights=str(tmp_path / "weights.pth"))
    given = [value.double().sum().item() for value in source.state_dict().values()]
    assert all(value.double().sum().item() in given for value in encoder.state_dict().values())


def test_weights_of_a_checkpoint(tmp_path: Path) -> None:
    source = SmallEncoder()
    state = {f"encoder.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": {**state, "head.weight": torch.zeros(2, 96, 1, 1)}}, tmp_path / "last.ckpt")
    encoder = build_encoder("small", weights=str(tmp_path / "last.ckpt"))
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[key], rtol=0, atol=0)


def test_unusable_weights(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with pytest.raises(FileNotFoundError, match=r"weights=.*weights.pth does not exist"):
        build_encoder("small", weights=str(file))
    file.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"weights.pth is damaged or not a checkpoint"):
        build_encoder("small", weights=str(file))
    torch.save({"stem.0.weight": torch.zeros(24, 3, 5, 5)}, file)
    with pytest.raises(ValueError, match=r"weights.pth: 1 of the encoder's \d+ keys matched"):
        build_encoder("small", weights=str(file))
