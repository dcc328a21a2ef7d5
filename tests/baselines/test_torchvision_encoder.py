"""torchvision's models as encoders: their levels against torchvision's own layers, weights, and YAML."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.random_data import NUM_CLASSES, RandomData
from helpers.tiny import EXAMPLES, command, quick, write_photos
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision import models

from fbr_plugin.baselines import BAS, CAM
from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.protocol import check_encoder


def saved(name: str, folder: Path) -> tuple[torch.nn.Module, str]:
    """A model of torchvision with random weights, and the file of its state dict."""
    torch.manual_seed(0)
    model = models.get_model(name, weights=None).eval()
    torch.save(model.state_dict(), folder / "weights.pth")
    return model, str(folder / "weights.pth")


def plain_levels(model: torch.nn.Module, image: Tensor) -> list[Tensor]:
    """The last output of a model's layers at each size."""
    children = dict(model.named_children())
    residual = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    layers = children["features"] if "features" in children else [children[name] for name in residual]
    levels: dict[int, Tensor] = {}
    for layer in layers:
        image = layer(image)
        levels[image.shape[-1]] = image
    return list(levels.values())


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "densenet121", pytest.param("convnext_tiny", marks=pytest.mark.slow)]
)
def test_levels_without_dilation_are_the_models_own(name: str, tmp_path: Path) -> None:
    model, file = saved(name, tmp_path)
    encoder = build_encoder(f"torchvision/{name}", 32, weights=file).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for level, expected in zip(encoder(image), plain_levels(model, image), strict=True):
            torch.testing.assert_close(level, expected)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_dilation_computes_the_same_at_more_pixels(name: str, tmp_path: Path) -> None:
    model, file = saved(name, tmp_path)
    encoder = build_encoder(f"torchvision/{name}", 8, weights=file).eval()
    assert encoder.strides == (2, 4, 8, 8, 8)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for level, expected in zip(encoder(image), plain_levels(model, image), strict=True):
            step = level.shape[-1] // expected.shape[-1]
            torch.testing.assert_close(level[..., ::step, ::step], expected)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("alexnet", (4, 8, 8, 8)),
        ("densenet121", (2, 4, 8, 8, 8)),
        ("efficientnet_b0", (2, 4, 8, 8, 8)),
        ("shufflenet_v2_x0_5", (2, 4, 8, 8, 8)),
        ("squeezenet1_1", (2, 4, 8, 8)),
    ],
)
def test_levels_have_the_sizes_of_the_protocol(name: str, strides: tuple[int, ...]) -> None:
    encoder = build_encoder(f"torchvision/{name}", 8)
    assert encoder.strides == strides
    check_encoder(encoder, name)
    assert all(module.training for module in encoder.modules())


def squeezenet_levels(weights: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """SqueezeNet 1.0 at stride 8, from its paper: of the last pooling only the stride is dropped."""

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        name = f"features.{name}"
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options).relu()

    def fire(x: Tensor, number: int, dilation: int = 1) -> Tensor:
        x = conv(x, f"{number}.squeeze")
        wide = conv(x, f"{number}.expand3x3", padding=dilation, dilation=dilation)
        return torch.cat([conv(x, f"{number}.expand1x1"), wide], 1)

    levels = [conv(image, "0", stride=2, padding=3)]
    for numbers in ((3, 4, 5), (7, 8, 9, 10)):
        x = F.max_pool2d(levels[-1], 3, 2, ceil_mode=True)
        for number in numbers:
            x = fire(x, number)
        levels.append(x)
    return [*levels, fire(F.max_pool2d(levels[-1], 3, 1, padding=1), 12, dilation=2)]


def check_squeezenet(file: Path) -> None:
    """Compare the encoder of a file of weights with the plain computation."""
    encoder = build_encoder("torchvision/squeezenet1_0", 8, weights=str(file)).eval()
    assert (encoder.channels, encoder.strides, encoder.stride) == ((96, 256, 512, 512), (2, 4, 8, 8), 8)
    weights = {name: value.float() for name, value in load_file(file).items()}
    image = torch.randn(2, 3, 72, 104)
    with torch.no_grad():
        for level, expected in zip(encoder(image), squeezenet_levels(weights, image), strict=True):
            torch.testing.assert_close(level, expected)
        sizes = [tuple(level.shape[-2:]) for level in encoder(image[..., :70, :99])]
    assert sizes == [(35, 50), (18, 25), (9, 13), (9, 13)]


def test_squeezenet_in_half_precision(tmp_path: Path) -> None:
    model, _ = saved("squeezenet1_0", tmp_path)
    save_file({name: value.half() for name, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    check_squeezenet(tmp_path / "w.safetensors")


def test_squeezenet_with_imagenet_weights(real_data: Path) -> None:
    check_squeezenet(real_data / "weights" / "squeezenet1_0.safetensors")


@pytest.mark.slow
def test_weights_with_the_names_of_released_densenets(tmp_path: Path) -> None:
    model, file = saved("densenet121", tmp_path)
    state = model.state_dict()
    released = {re.sub(r"\.(norm|conv)([12])\.", r".\1.\2.", key): value for key, value in state.items()}
    assert len(released.keys() - state.keys()) > 500
    torch.save(released, file)
    encoder = build_encoder("torchvision/densenet121", weights=file)
    for weight, same in zip(encoder.parameters(), model.get_submodule("features").parameters(), strict=True):
        assert weight.equal(same)


def test_a_gradient_reaches_every_weight() -> None:
    for kind, options in ((CAM, {}), (BAS, {}), (BAS, {"wsol": True})):
        model = kind(NUM_CLASSES, encoder="torchvision/squeezenet1_0", output_stride=8, **options)
        model.training_step(RandomData().batch(), 0)["loss"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_last_stage_turns_the_last_level_but_one_into_the_last() -> None:
    encoder = build_encoder("torchvision/squeezenet1_0").eval()
    with torch.no_grad():
        levels = encoder(torch.randn(1, 3, 48, 64))
        torch.testing.assert_close(encoder.last_stage()(levels[-2]), levels[-1], rtol=0, atol=0)


@pytest.mark.slow
def test_fit_from_yaml_then_test_without_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos, file = write_photos(tmp_path / "photos"), tmp_path / "weights.safetensors"
    model = models.squeezenet1_0(weights=None)
    save_file({name: value.half() for name, value in model.state_dict().items()}, file)
    (tmp_path / "encoder.yaml").write_text(
        f"model: {{init_args: {{encoder: torchvision/squeezenet1_0, output_stride: 8, weights: {file}}}}}\n"
    )
    words = ["--config", EXAMPLES / "folder_cam.yaml", "--config", "encoder.yaml", "--data.root", photos]
    words += ["--model.num_classes", 2, "--model.scales", "[1.0]", "--data.augmentation.crop_size", 32]
    words += ["--data.augmentation.long_side", "[32, 40]", "--data.loading.batch_size", 2, *quick(1)]
    command("fit", *words, "--trainer.limit_val_batches", 0)
    file.unlink()
    (checkpoint,) = tmp_path.rglob("epoch*.ckpt")
    command("test", *words, "--ckpt_path", checkpoint)


def test_unknown_model_lists_close_ones() -> None:
    with pytest.raises(
        ValueError, match=r"unknown encoder 'torchvision/resnet19'; did you mean .*torchvision/resnet18"
    ):
        build_encoder("torchvision/resnet19")


def test_unsupported_stride_lists_the_supported() -> None:
    with pytest.raises(ValueError, match=r"has no output stride 32; it supports 2, 4, 8, 16$"):
        build_encoder("torchvision/squeezenet1_0", 32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_t", "vit_b_16"])
def test_model_without_dense_features(name: str) -> None:
    with pytest.raises(ValueError, match=f"'torchvision/{name}' has no dense features, .*resnet50"):
        build_encoder(f"torchvision/{name}")


def test_pretrained_weights_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    with pytest.raises(FileNotFoundError, match="set pretrained=False, or name a local file") as caught:
        build_encoder("torchvision/squeezenet1_0", pretrained=True)
    assert isinstance(caught.value.__cause__, OSError)
