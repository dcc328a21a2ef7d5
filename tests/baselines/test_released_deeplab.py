"""DeepLab-v2 in its released form, against what deeplab-pytorch (commit 4219467) returned for its weights."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.released import (
    SmallResNet101,
    close,
    example,
    fixed_input,
    reference,
    toy_descent,
    with_fixed_weights,
)
from torch import Tensor, nn

from fbr_plugin.baselines import DeepLabV2
from fbr_plugin.baselines.deeplab.network import fused_logits
from fbr_plugin.baselines.encoders.build import build_encoder
from fbr_plugin.baselines.encoders.resnet101 import ResNet101
from fbr_plugin.baselines.encoders.weights import load_weights
from fbr_plugin.config import merged, preset
from fbr_plugin.data import denormalise

SMALL = "helpers.released.SmallResNet101"
IMAGE = (2, 3, 65, 81)  # at half this size, 32 x 40, the whole grid passes the image


@cache
def network() -> DeepLabV2:
    """A network of fewer blocks with the weights that the released one was given."""
    model = build(rates=(1, 2), scales=(1.0,), flip=False, balanced=False)
    with_fixed_weights(model)
    for parameter in model.head.parameters():
        parameter.data.mul_(0.01)  # logits of a few units
    return model


def build(**options: Any) -> DeepLabV2:
    """A network in the released form."""
    return DeepLabV2(3, **{"encoder": SMALL, "released": True, "frozen_norm": True, **options})


def image() -> Tensor:
    """The images that the released network saw, normalised."""
    return fixed_input("image", *IMAGE)


@torch.no_grad()
def test_logits_of_three_scales_and_their_maximum() -> None:
    released, logits = reference("deeplab"), fused_logits(network().train(), image())
    for name, ours in zip(("whole", "half", "three_quarters", "maximum"), logits, strict=True):
        close(ours, released[name])
    assert logits[1].shape[2:] == (5, 6)


@torch.no_grad()
def test_predictions_are_the_maximum() -> None:
    model, released = network().eval(), reference("deeplab")["test"]
    close(model.full_logits(image())[:1], released)
    torch.testing.assert_close(model.probabilities(image())[:1], released.softmax(1), rtol=0, atol=1e-4)
    batch = {"id": ["a"], "image": image()[:1]}
    assert torch.equal(model.predict_step(batch, 0).masks[0], released.argmax(1)[0])


def test_loss_against_labels_of_each_grid() -> None:
    label = torch.tensor([0, 1, 3, 255])[fixed_input("label", 2, 65, 65).floor().long() + 2]
    with torch.no_grad():
        loss = network().training_step({"image": image()[..., :65], "pseudo_label": label}, 0)
    close(loss, reference("deeplab")["loss"])


def test_groups_and_optimizer_of_the_recipe() -> None:
    settings = example("voc_deeplab")["model"]["init_args"]
    assert (settings["encoder"], settings["released"]) == ("resnet101_deeplab", True)
    config = merged(preset(DeepLabV2, "optimizer"), settings["optimizer"])
    assert (config.lr, config.head_lr) == (2.5e-4, 2.5e-3)
    model = build(optimizer=replace(config, lr=0.025, head_lr=0.25))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    encoder, weights, biases = model.parameter_groups()
    trained = [names[id(each)] for each in encoder["params"] if each.requires_grad]
    assert all(name.startswith("encoder.layer") and name.endswith("conv.weight") for name in trained)
    assert [names[id(each)] for each in weights["params"]] == [f"head.{j}.weight" for j in range(4)]
    assert [names[id(each)] for each in biases["params"]] == [f"head.{j}.bias" for j in range(4)]

    toys = [nn.Parameter(torch.tensor(each)) for each in ([1.0, 2.0, 3.0], [-1.0, 0.5], [0.3])]
    groups = [
        {**group, "params": [each]} for group, each in zip((encoder, weights, biases), toys, strict=True)
    ]
    rates, released = toy_descent(model.optimizer.build(groups, 25), toys, 25), reference("deeplab")
    torch.testing.assert_close(rates, released["rates"], rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.cat(toys).detach(), released["weights"], rtol=1e-6, atol=0)


def test_initial_weights_load_without_their_classifier(tmp_path: Path) -> None:
    source, target = SmallResNet101(), SmallResNet101()
    with_fixed_weights(source)
    assert {"layer1.conv1.conv.weight", "layer5.block1.shortcut.bn.running_var"} <= source.state_dict().keys()
    torch.save({**source.state_dict(), "fc.weight": torch.zeros(91, 2048, 1, 1)}, tmp_path / "init.pth")
    load_weights(target, tmp_path / "init.pth")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_the_encoder_sees_bgr_minus_its_mean() -> None:
    seen: list[Tensor] = []
    encoder = SmallResNet101()
    encoder.layer1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    view = image()[:1].clamp(-1, 1)
    encoder(view)
    pixels = torch.from_numpy(denormalise(view)).movedim(-1, 1)[:, [2, 1, 0]]
    expected = pixels - torch.tensor([104.008, 116.669, 122.675])[:, None, None]
    assert (seen[0] - expected).abs().max() <= 0.51  # denormalise rounds


def test_levels() -> None:
    encoder = ResNet101(width=4)
    for height, rows in ((63, 9), (64, 9), (65, 9), (70, 9), (71, 10)):
        view = torch.zeros(1, 3, height, 81)
        grids = [(-(-height // stride), -(-81 // stride)) for stride in encoder.strides]
        assert [tuple(level.shape) for level in encoder(view)] == [
            (1, width, *grid) for width, grid in zip((4, 16, 32, 64, 128), grids, strict=True)
        ]
        assert encoder.whole_levels(view)[-1].shape[2] == rows
    convolutions = [
        [each for each in stage.modules() if isinstance(each, nn.Conv2d)] for stage in encoder.children()
    ]
    assert [{each.dilation[0] for each in stage} for stage in convolutions] == [{1}, {1}, {1}, {1, 2}, {1, 4}]
    assert [len(stage) for stage in convolutions] == [1, 10, 13, 70, 10]


def test_other_encoders_train_in_the_released_form() -> None:
    model = build(encoder="small", rates=(1, 2))
    batch = {"image": image(), "pseudo_label": torch.zeros(2, 65, 81, dtype=torch.int64)}
    model.training_step(batch, 0).backward()
    assert model.eval().probabilities(image()).shape == (2, 4, 65, 81)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="'resnet101_deeplab' has no output stride 16; it supports 8"):
        build_encoder("resnet101_deeplab", 16)
    with pytest.raises(ValueError, match=r"'resnet101_deeplab' has no pretrained weights .* weights=FILE"):
        build_encoder("resnet101_deeplab", pretrained=True)
    with pytest.raises(ValueError, match="poly_every must be at least 1 step, got 0"):
        build(optimizer={"poly_every": 0})
