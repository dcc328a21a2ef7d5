"""Released checkpoints as weights of our networks: their names, and the outputs of the released networks.

`released_names.json.xz` has the names and shapes in the state dicts of the released networks, built at the
commits that `fbr_plugin.baselines.released.kinds` names. `imported.safetensors` has outputs of these networks
with the weights of `helpers.released` by the released names, with ResNet-38 narrowed by 16, DeepLab-v2 with
fewer blocks, and without dropout: of BAS in both modes, of the others, whose normalisation is fixed, in
evaluation.
"""

import json
import lzma
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.released import NarrowResNet38, SmallResNet101, close, fixed_input, fixed_weights, reference
from torch import Tensor

from fbr_plugin import baselines
from fbr_plugin.baselines.deeplab.network import fused_logits
from fbr_plugin.baselines.encoders import build
from fbr_plugin.baselines.released.convert import convert, fitting_kinds
from fbr_plugin.baselines.released.kinds import KINDS
from fbr_plugin.functional import separation

NAMES = Path(__file__).parents[1] / "reference" / "released_names.json.xz"
CLASSES = {"amn/coco": 80, "deeplab_v2/cocostuff": 181, "bas_voc": 20} | {
    f"bas_{name}{code}": number
    for name in ("resnet50", "vgg16", "inception_v3", "mobilenet_v1")
    for code, number in {"": 200, "/cvpr_cub": 200, "/cvpr_ilsvrc": 1000}.items()
}
# Other names of tensors that are listed already, and buffers of IRN's training.
REPEATED = (
    r"(stage\d|backbone|newly_added|edge_layers|dp_layers)\..+|fc_dp7\.4\..+|path_indices\d+|disp_target"
)


@cache
def names() -> dict[str, dict[str, list[int]]]:
    """Shapes by name of the tensors of each released network."""
    found: dict[str, dict[str, list[int]]] = json.loads(lzma.decompress(NAMES.read_bytes()))
    return found


def empty(label: str) -> dict[str, Tensor]:
    """A released state dict without values."""
    with torch.device("meta"):
        return {name: torch.empty(shape) for name, shape in names()[label].items()}


def test_every_kind_is_listed() -> None:
    assert {label.partition("/")[0] for label in names()} == {*KINDS}


@pytest.mark.parametrize("label", names())
def test_all_tensors_of_the_released_network_are_known(label: str) -> None:
    kind, _, _ = label.partition("/")
    state = empty(label)
    with torch.device("meta"):
        found = convert(kind, state)
    assert (found.missing, found.unexpected, found.misfits) == ([], [], [])
    assert len(found.matched) + len(found.left_out) == len(state)
    assert all(re.fullmatch(f"{REPEATED}|fc\\..+|.*_copy.*|erase_branch.*", name) for name in found.left_out)
    if KINDS[kind].classes is not None:
        assert found.settings["num_classes"] == CLASSES.get(label, 20)
    assert fitting_kinds(state) == [kind]


EXTENTS = {
    **dict.fromkeys(("cam", "bas_voc"), "cells"),
    **dict.fromkeys(("amn", "fbr_amn", "eps", "ppc_eps", "fbr_ppc"), "image"),
}
"""What the released scripts stretch the grids of all scales over."""


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_are_made_as_released(kind: str) -> None:
    assert KINDS[kind].settings.get("grid_extent") == EXTENTS.get(kind)


@pytest.mark.parametrize("label", ["amn", "ppc_seam", "bas_vgg16/cvpr_ilsvrc", "deeplab_v2", "resnet18"])
def test_names_of_another_network(label: str) -> None:
    """A tensor that is gone is missing, one of another name unexpected, one of another shape a misfit."""
    kind, _, _ = label.partition("/")
    state = empty(label)
    first, second, *_ = (name for name, value in state.items() if value.ndim > 1)
    state["mine"] = state.pop(first)
    state[second] = state[second][:1, :1]
    with torch.device("meta"):
        found = convert(kind, state)
    assert len(found.missing) == 1
    assert found.unexpected == ["mine"]
    (misfit,) = found.misfits
    assert re.search(r": \[1, 1(, \d+)*\] in the file, \[\d+, \d+(, \d+)*\] here", misfit)
    assert fitting_kinds(state) == []


def test_counters_of_batch_normalisation_may_be_missing() -> None:
    """Files from before torch 0.4.1 lack them."""
    state = {name: value for name, value in empty("seam").items() if not name.endswith("num_batches_tracked")}
    with torch.device("meta"):
        found = convert("seam", state)
    assert (len(found.matched), found.missing) == (195, [])


LABEL = torch.zeros(1, 20)
LABEL[0, [2, 14]] = 1
IMAGE, SQUARE, WIDE, LARGE = ("image", 65, 97), ("square", 64, 64), ("wide", 64, 48), ("image", 96, 96)


def view(which: tuple[str, int, int]) -> Tensor:
    """An image that the released network saw."""
    name, height, width = which
    return fixed_input(name, 1, 3, height, width)


def of_fbr(model: Any, features: Tensor) -> dict[str, Tensor]:
    """The outputs of FBR's heads."""
    found = model.fbr.heads(features)
    return {"foreground": found.foreground[:, ::16], "background": found.background[:, ::16]}


def of_amn(model: Any) -> dict[str, Tensor]:
    logits, features, _ = model(view(IMAGE), LABEL)
    return (
        {"logits": logits}
        if model.__class__ is baselines.AMN
        else {"logits": logits, **of_fbr(model, features)}
    )


def of_irn(model: Any) -> dict[str, Tensor]:
    boundary, displacement = model(view(SQUARE))
    return {"boundary": boundary, "displacement": displacement}


def of_seam(model: Any) -> dict[str, Tensor]:
    maps = model(view(WIDE), LABEL)
    large = maps.enlarged((64, 48))
    return {
        "cam": large.cam[:, :, ::8, ::8],
        "refined": large.refined[:, :, ::8, ::8],
        "projection": maps.projection[:, ::16],
    }


def of_eps(model: Any) -> dict[str, Tensor]:
    maps = model(view(WIDE), LABEL)
    return {"cam": maps.cam, "refined": maps.refined, "projection": maps.projection[:, ::16]}


def of_fbr_ppc(model: Any) -> dict[str, Tensor]:
    maps = model(view(WIDE), LABEL)
    found = model.fbr.heads(maps.levels[-1])
    apart = model.fbr.classifier.normalise(found.before_relu)
    return {
        **of_eps(model),
        **of_fbr(model, maps.levels[-1]),
        "logits": maps.logits,
        "seg": model.fbr.classifier(found.before_relu),
        "sim": separation(found.foreground, apart),
    }


def of_bas(model: Any) -> dict[str, Tensor]:
    step, found = model.num_classes // 10, {}
    for mode in ("eval", "train"):
        class_maps, maps, _ = model.train(mode == "train")(view(LARGE))
        found[f"{mode}.classes"] = class_maps[:, ::step, ::2, ::2]
        found[f"{mode}.maps"] = maps[:, ::step, ::2, ::2]
    return found


OUTPUTS: dict[str, Callable[[Any], dict[str, Tensor]]] = {
    "cam": lambda model: {"logits": model(view(IMAGE))[0]},
    **dict.fromkeys(("amn", "fbr_amn"), of_amn),
    "irn": of_irn,
    **dict.fromkeys(("seam", "ppc_seam"), of_seam),
    **dict.fromkeys(("eps", "ppc_eps"), of_eps),
    "fbr_ppc": of_fbr_ppc,
    "affinitynet": lambda model: {"features": model(view(WIDE))[:, ::32]},
    "deeplab_v2": lambda model: {"logits": fused_logits(model, view(IMAGE))[-1]},
    **dict.fromkeys((kind for kind in KINDS if kind.startswith("bas_")), of_bas),
}
PLAIN = ("bas_vgg16", "bas_inception_v3", "bas_mobilenet_v1")  # without shortcuts
NARROW = ("seam", "ppc_seam", "eps", "ppc_eps", "fbr_ppc", "affinitynet", "deeplab_v2")


def released_state(kind: str) -> dict[str, Tensor]:
    """A released state dict with the weights of the references; repeated tensors have other values."""
    shapes = names()[kind]
    if kind == "deeplab_v2":
        few = r"base\.layer(2|3|5)\.block([2-9]|\d\d)\..+|base\.layer4\.block([3-9]|\d\d)\..+"
        shapes = {name: shape for name, shape in shapes.items() if not re.fullmatch(few, name)}
    elif KINDS[kind].resnet38:
        shapes = {name: narrowed(name, shape) for name, shape in shapes.items()}
    gain = 2.0 if kind in PLAIN else 1.0
    return fixed_weights({name: torch.empty(shape) for name, shape in shapes.items()}, gain)


def narrowed(name: str, shape: list[int]) -> list[int]:
    """The shape in a network whose ResNet-38 has a sixteenth of its channels."""
    if re.fullmatch(r"f9\.weight|bg_.+", name):
        return shape
    if name == "conv1a.weight":
        return [4, *shape[1:]]
    if re.match(r"b\d|bn\d", name):
        return [*(size // 16 for size in shape[:2]), *shape[2:]]
    return [shape[0], shape[1] // 16, *shape[2:]]


@pytest.mark.parametrize(
    "kind", [kind if kind in NARROW else pytest.param(kind, marks=pytest.mark.slow) for kind in OUTPUTS]
)
def test_outputs_equal_those_of_the_released_network(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ResNet38d", NarrowResNet38)
    if kind == "deeplab_v2":
        monkeypatch.setattr(build, "ResNet101", SmallResNet101)
    found = convert(kind, released_state(kind))
    assert (found.missing, found.unexpected, found.misfits) == ([], [], [])
    model: Any = getattr(baselines, str(KINDS[kind].network))(**{"num_classes": 20, **found.settings})
    model.load_state_dict(found.state)
    model.eval()
    for module in model.modules():
        module.requires_grad_(False)
    released, outputs = reference("imported", f"{kind}."), OUTPUTS[kind](model)
    assert {*released} <= {*outputs}
    for name, value in released.items():
        close(outputs[name], value)
