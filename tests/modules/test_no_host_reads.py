"""A step of the loss and of the gate never waits for the device, and copies nothing to it.

Tensors without content stand for those of a GPU: whoever reads a value, or lets a shape depend on one, fails.
"""

from collections.abc import Callable
from contextlib import nullcontext
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
LOSS = FBRConfig(dim=6, num_clusters=3, bank_size=200, min_bank=4, num_negatives=9)
GATE = GateConfig(num_prototypes=2, num_clusters=4, background_rows=30, class_rows=10, recluster_every=2)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class StaysOn(TorchDispatchMode):
    """Refuses every operation with a tensor of another device, and so the copy of a fresh one."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor) and value.device.type != self.device:
                raise RuntimeError(f"{func} takes or makes a tensor on {value.device}")
        return result


class Steps:
    """The loss, the gate and a view of 4 images on a device."""

    def __init__(self, device: str) -> None:
        with torch.device(device):
            self.loss, self.gate = FBRLoss(SHAPE, LOSS), ClassAwareGate(SHAPE, GATE)
            features = torch.rand(4, 5, 6, 6, requires_grad=True)
            self.view = DenseView(features, torch.rand(4, 4, 6, 6), torch.ones(4, 3))

    def train(self) -> Tensor:
        """What is repeated: both parts, without the backward pass."""
        total = self.loss(self.view).total
        self.gate.learn(self.view)
        return total

    def predict(self) -> Tensor:
        """Seeds of gated scores."""
        maps = gate_scores(self.gate, self.view.scores[:, 1:], [self.view.features])
        return self.gate.match(maps)


@pytest.fixture(params=["meta", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The meta device, and a GPU of tensors that have no content."""
    if request.param == "meta":
        monkeypatch.setattr(
            torch, "autocast", lambda *_, **__: nullcontext()
        )  # which does not know the meta device
        yield "meta"
    else:
        with FakeTensorMode():
            try:
                torch.zeros(1, device="cuda").uniform_()
            except RuntimeError:
                pytest.skip("this version of torch needs a GPU for this")
            yield "cuda"


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_nothing_is_read_or_copied(device: str) -> None:
    steps = Steps(device)
    with StaysOn(device):
        for _ in range(2):
            total = steps.train()
            if device == "meta":  # the backward pass would start the GPU
                total.backward()
        steps.gate.update(steps.view)
        steps.gate.recluster(steps.gate.generator())
        steps.loss.eval()(steps.view)
        steps.predict()


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(
    "read",
    [
        lambda graph: graph.sum().item(),
        lambda graph: graph.tolist(),
        lambda graph: float(graph.sum()),
        lambda graph: bool((graph > 0).any()),
        lambda graph: graph[graph > 0],
        lambda graph: graph.nonzero(),
        lambda graph: graph.unique(),
        lambda graph: graph + torch.tensor([1.0, 2, 3]),
        lambda graph: torch.tensor([1.0, 2, 3]).to(graph.device),
    ],
    ids=["item", "tolist", "float", "bool", "index", "nonzero", "unique", "mixed", "copy"],
)
def test_a_planted_read_is_found(
    device: str, read: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, graph = Steps(device), fbr.semantic_graph

    def planted(*args: Any) -> Tensor:
        found = graph(*args)
        read(found)
        return found

    monkeypatch.setattr(fbr, "semantic_graph", planted)
    with StaysOn(device), pytest.raises((RuntimeError, NotImplementedError)):
        steps.train()


@on_a_gpu
def test_the_gpu_is_never_waited_for() -> None:
    steps = Steps("cuda")
    steps.train().backward()  # loads what is needed
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            steps.train().backward()
            steps.gate.update(steps.view)
        steps.gate.recluster(steps.gate.generator())
        steps.predict()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_a_gpu
def test_a_step_as_a_cuda_graph() -> None:
    steps, others = (Steps("cuda") for _ in range(2))
    others.view = steps.view
    parts = torch.nn.ModuleList([others.loss, others.gate])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # allocates and tunes outside of the capture
        for _ in range(3):
            steps.train().backward()
    torch.cuda.current_stream().wait_stream(side)
    parts.load_state_dict(torch.nn.ModuleList([steps.loss, steps.gate]).state_dict())
    for weight in (*steps.loss.parameters(), steps.view.features):
        weight.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = steps.train()
        total.backward()
    totals = []
    for _ in range(3):
        graph.replay()
        totals.append(total.item())
        torch.testing.assert_close(others.train(), total)
    assert len({*totals}) == 3  # every replay draws anew
    for name, value in parts.state_dict().items():
        own = torch.nn.ModuleList([steps.loss, steps.gate]).state_dict()[name]
        torch.testing.assert_close(own, value)
