"""What an image costs a network: floating-point operations, seconds, and bytes kept for the backward pass."""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cache
from pkgutil import resolve_name
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from fbr_plugin.baselines import IRN, MaskRCNN
from fbr_plugin.training.mixin import FBRMixin
from fbr_plugin.training.optimizers import add_parameters

Size = tuple[int, int]
PRESENT = 2  # classes of an image of several


class Cost(NamedTuple):
    """The cost of a network, of a training step for each of its images.

    Attributes:
        flops: operations of matrix products and convolutions; a multiplication and an addition are two.
        seconds: on the device; 0 if not measured.
        saved: bytes kept for the backward pass.
        fixed: bytes of parameters, buffers, gradients and the optimizer's state.
        weights: bytes of parameters and buffers, as in a checkpoint.
        state: bytes of the optimizer's state.
    """

    flops: float
    seconds: float = 0.0
    saved: float = 0.0
    fixed: float = 0.0
    weights: float = 0.0
    state: float = 0.0


def build(spec: str) -> Any:
    """The network of a class path and arguments in JSON, without its weights, refinement and other CAM."""
    found = json.loads(spec)
    without = {"pretrained": False, "weights": None, "refine": None, "combine_with": None}
    given = {name: without.get(name, value) for name, value in found["init_args"].items()}
    return resolve_name(found["class_path"])(**given)


def example(size: Size) -> tuple[NDArray[np.uint8], Tensor]:
    """A photo [H, W, 3] of smooth noise with grain, and a smooth map [H, W] of 0, 1 and 2."""
    torch.manual_seed(0)
    smooth = interpolate(torch.randn(2, 3, 8, 8), size, mode="bicubic")
    photo = (128 + 50 * smooth[0] + 8 * torch.randn(3, *size)).clamp(0, 255)
    return photo.permute(1, 2, 0).byte().numpy(), smooth[1].argmax(0)


def images(number: int, size: Size, num_classes: int, present: int, device: str) -> dict[str, Any]:
    """A batch of images with all labels that a network may read."""
    label = torch.zeros(number, num_classes, device=device)
    label[:, :present] = 1
    maps = example(size)[1].to(device).expand(number, -1, -1)
    image = torch.randn(number, 3, *size, device=device)
    objects = {"masks": torch.stack([maps[0] == 1, maps[0] == 2]), "labels": torch.tensor([1, 2])}
    others = {"pseudo_label": maps, "saliency": (maps > 0).float(), "instances": [objects] * number}
    return {"image": image, "label": label, "id": ["example"] * number, **others}


def timed(run: Callable[[], Any], device: str = "cpu", repeats: int = 1) -> float:
    """Seconds of a call: of the clock on a GPU, of this process's cores on the CPU."""
    gpu = device != "cpu"
    clock, wait = (time.perf_counter, torch.cuda.synchronize) if gpu else (time.process_time, int)
    wait()
    start = clock()
    for _ in range(repeats):
        run()
    wait()
    return (clock() - start) / repeats


def counted(run: Callable[[], Any], known: Iterable[Tensor] = ()) -> tuple[int, int]:
    """Operations of a call, and the bytes of the storages kept for its backward pass, without known ones."""
    without = {each.untyped_storage().data_ptr() for each in known}
    kept: dict[int, Tensor] = {}

    def keep(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved  # which keeps the address in use
        return saved

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved)
    with FlopCounterMode(display=False) as counter, hooks:
        run()
    saved = sum(each.untyped_storage().nbytes() for address, each in kept.items() if address not in without)
    return counter.get_total_flops(), saved


def size_of(tensors: Iterable[Tensor | None]) -> int:
    """The bytes of tensors."""
    return sum(each.numel() * each.element_size() for each in tensors if each is not None)


@cache
def training_cost(spec: str, side: int, number: int, device: str, repeats: int) -> Cost:
    """The cost of a training step. It is counted first and timed afterwards, as counting slows it down.

    Args:
        spec: the network.
        side: of the crops.
        number: of images in the batch.
        device: on which to measure.
        repeats: steps that are timed; 0 for none.
    """
    model = build(spec).to(device)
    given, losses = model.hparams, isinstance(model, FBRMixin) and model.fbr
    present = 1 if given.get("wsol") else PRESENT
    optimizer = model.optimizer.build(model.parameter_groups(), 1)["optimizer"]
    if losses:
        add_parameters(optimizer, [each for each in losses.parameters() if each.requires_grad])
    batch = images(number, (side, side), given["num_classes"], present, device)

    def step() -> None:
        optimizer.zero_grad()
        output = model.training_step(batch, 0)
        (output["loss"] if isinstance(output, dict) else output).backward()
        optimizer.step()

    flops, saved = counted(step, model.parameters())
    seconds = timed(step, device, repeats) if repeats else 0.0
    own = [*model.parameters(), *model.buffers()]
    state = [value for each in optimizer.state.values() for value in each.values() if torch.is_tensor(value)]
    gradients = size_of(each.grad for each in model.parameters())
    weights, kept = size_of(own), size_of(state)
    return Cost(flops / number, seconds / number, saved / number, weights + gradients + kept, weights, kept)


@cache
def prediction_cost(spec: str, cam: str, size: Size, crops: int, device: str) -> Cost:
    """The cost of predicting an image at all scales; on the CPU, only the number of its operations.

    Args:
        spec: the network. Of IRN, the boundaries are predicted.
        cam: the other CAM that BAS's seeds are combined with; "" for none.
        size: height and width of the image.
        crops: of localization, the crops of this size; 0 for a prediction of seeds or masks.
        device: measured there if it is a GPU.
    """
    model = build(spec).to(device).eval()
    if cam:
        model.other_cam = build(cam).to(device).eval().seed_scores
    batch = images(crops or 1, size, model.hparams["num_classes"], PRESENT, device)

    def predict() -> Any:
        if crops:
            return model.scored_maps(batch["image"])
        return model.boundary(batch["image"]) if isinstance(model, IRN) else model.predict_step(batch, 0)

    with torch.no_grad():
        if device != "cpu":
            return Cost(counted(predict)[0], timed(predict, device, 5))
        # How many regions Mask R-CNN looks at depends on what it has computed.
        real = isinstance(model, MaskRCNN)
        with nullcontext() if real else FakeTensorMode(allow_non_fake_inputs=True):
            return Cost(counted(predict)[0])
