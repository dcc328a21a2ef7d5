"""A step of the loss and of the gate never waits for the device, nor copies to it.

Tensors without content stand for a GPU: whoever reads a value, or makes a shape of one, fails.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, GateConfig, ViewShape, gate_scores
from fbr_plugin import functional as fbr

SHAPE = ViewShape(5, 3)
FBR = FBRConfig(dim=6, num_clusters=3, bank_size=200, min_bank=4, num_negatives=9)
GATE = GateConfig(num_prototypes=2, num_clusters=4, background_rows=30, class_rows=10, recluster_every=2)


def make_view(device: str) -> DenseView:
    """A view of 4 images, 3 classes and 5 channels."""
    features = torch.rand(4, 5, 6, 6, device=device, requires_grad=True)
    return DenseView(features, torch.rand(4, 4, 6, 6, device=device), torch.ones(4, 3, device=device))


class StaysOn(TorchDispatchMode):
    """Refuses every operation with a tensor on another device, so also copies of fresh ones."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor) and value.device.type != self.device:
                raise RuntimeError(f"{func} has a tensor on {value.device}")
        return result


@contextmanager
def device_without_content(device: str) -> Iterator[None]:
    """Let steps run on the meta device, or on a GPU that does not exist."""
    if device == "meta":
        yield
    else:
        with FakeTensorMode():
            yield


def step(device: str, between: Callable[[Tensor], Any] = lambda _: None) -> None:
    """Three steps of both parts, with a reclustering and a prediction; something may read the terms."""
    loss, gate = FBRLoss(SHAPE, FBR).to(device), ClassAwareGate(SHAPE, GATE).to(device)
    view = make_view(device)
    with StaysOn(device):
        for _ in range(3):
            terms = loss(view)
            between(terms.assignments)
            terms.total.backward()
            gate.update(view)
        gate_scores(gate.eval(), view.scores[:, 1:], [view.features])


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_steps(device: str) -> None:
    with device_without_content(device):
        step(device)
