"""PPC's DeepLab in its released form, against what usr922/wseg (commit e96b961) returned for its weights.

Its `segmentation/` fails as released: the network reads `cfg` before it is set and hands `os` to a ResNet
without that argument. Both were mended to run it, with an eighth of the channels, two blocks a stage, and no
dropout.
"""

import re
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from helpers.released import close, fixed_input, fixed_weights, reference
from test_released_weights import names
from torch import Tensor, nn

from fbr_plugin.baselines import DeepLabV2
from fbr_plugin.baselines.deeplab.network import HEADS, ConcatASPP
from fbr_plugin.baselines.encoders.weights import load_weights
from fbr_plugin.baselines.released.convert import convert

RELEASED = reference("deeplab_ppc")


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"layers": (2, 2, 2, 2), "channels": (8, 16, 32, 64), "stem_width": 8}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, **small))
    monkeypatch.setitem(HEADS, "concat", partial(ConcatASPP, width=32))


def released_state() -> dict[str, Tensor]:
    """The released state dict of the narrow network."""
    shapes = {
        name: [size // 8 if size >= 64 else size for size in shape[:2]] + shape[2:]
        for name, shape in names()["deeplab_ppc"].items()
        if not re.match(r"backbone\.layer\d\.([2-9]|\d\d)\.", name)
    }
    return fixed_weights({name: torch.empty(shape) for name, shape in shapes.items()})


def network() -> DeepLabV2:
    """Our network with the released weights."""
    found = convert("deeplab_ppc", released_state())
    assert (found.missing, found.unexpected, found.misfits) == ([], [], [])
    model = DeepLabV2(**found.settings, scales=(1.0, 0.5, 1.5), balanced=False)
    model.load_state_dict(found.state)
    model.head.get_submodule("dropout").p = 0.0
    return model


def image() -> Tensor:
    return fixed_input("image", 3, 3, 65, 97)


@torch.no_grad()
def test_evaluation() -> None:
    model = network().eval()
    close(model.full_logits(image())[:1, :, ::8, ::8], RELEASED["eval"])
    close(model.probabilities(image()[:1])[:, :, ::8, ::8], RELEASED["test"])


def test_training() -> None:
    model = network().train()
    label = torch.tensor([0, 1, 20, 255])[fixed_input("label", 3, 65, 97).floor().long() + 2]
    with torch.no_grad():
        close(network().train().full_logits(image())[:, ::2, ::8, ::8], RELEASED["train"])
    loss = model.training_step({"image": image(), "pseudo_label": label}, 0)
    loss.backward()
    close(loss.detach(), RELEASED["loss"])
    close(model.head.get_buffer("joint.1.running_mean"), RELEASED["mean"])
    ours = {
        "backbone.conv1.0.weight": model.encoder.model.conv1[0].weight,
        "backbone.layer4.0.conv2.weight": model.encoder.model.layer4[0].conv2.weight,
        "aspp.branch5_conv.weight": model.head.get_parameter("pooled.0.weight"),
        "cls_conv.bias": model.head.get_parameter("classifier.bias"),
    }
    for name, weight in ours.items():
        gradient = weight.grad.flatten()
        close(gradient[:: max(1, len(gradient) // 64)], RELEASED[f"gradient.{name}"], 1e-4)


def test_groups() -> None:
    """Convolutions, with the head's at ten times the rate, and its biases at twice that without decay."""
    groups = network().parameter_groups()
    trained = [[each for each in group["params"] if each.requires_grad] for group in groups]
    assert [[len(group), sum(each.numel() for each in group)] for group in trained] == RELEASED[
        "groups"
    ].tolist()
    assert [group["lr"] for group in groups] == [2.5e-4, 2.5e-3, 5e-3]
    assert [group.get("weight_decay") for group in groups] == [None, None, 0.0]


def test_first_weights_have_the_names_of_the_encoder(tmp_path: Path) -> None:
    prefix = "backbone."
    state = {key.removeprefix(prefix): value for key, value in released_state().items() if prefix in key}
    torch.save({**state, "fc.weight": torch.zeros(1000, 256)}, tmp_path / "resnet101s.pth")
    encoder = network().encoder
    nn.init.zeros_(encoder.model.conv1[0].weight)
    load_weights(encoder, tmp_path / "resnet101s.pth")
    assert torch.equal(encoder.model.conv1[0].weight, state["conv1.0.weight"])


def test_other_encoders_and_rates() -> None:
    for released in (False, True):
        model = DeepLabV2(3, encoder="small", rates=(1, 2), head="concat", released=released, scales=(1.0,))
        assert model.probabilities(image()).shape == (3, 4, 65, 97)
        assert all(
            norm.weight.requires_grad != released
            for norm in model.modules()
            if isinstance(norm, nn.BatchNorm2d)
        )


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="head must be one of 'sum', 'concat', got 'aspp'"):
        DeepLabV2(3, encoder="small", head="aspp")  # type: ignore[arg-type]
    model = DeepLabV2(3, encoder="small", rates=(1, 2), head="concat")
    with pytest.raises(ValueError, match=r"got a batch of 1: train with a batch_size of 2 or more"):
        model.training_step({"image": image()[:1], "pseudo_label": torch.zeros(1, 65, 97).long()}, 0)
