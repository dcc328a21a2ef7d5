"""Compiled steps: one graph without breaks, compiled once, and what eager ones compute."""

import shutil
from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import nn

from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, GateConfig, ViewShape, gate_scores
from fbr_plugin import functional as fbr

SHAPE = ViewShape(5, 3)
LOSS = FBRConfig(
    dim=6, num_clusters=2, kmeans_iterations=1, bank_size=60, min_bank=4, num_negatives=9, warmup_steps=1
)
GATE = GateConfig(num_prototypes=2, num_clusters=3, background_rows=30, class_rows=10, recluster_every=2)


@pytest.fixture(autouse=True)
def compiled_once() -> Iterator[None]:
    """A second compilation of anything is an error."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def quantile_compiles() -> None:
    """Skip where torch itself breaks the graph, as 2.6 does."""
    try:
        torch.compile(lambda x: x.quantile(0.5, dim=0), backend="eager", fullgraph=True)(torch.ones(3))
    except torch._dynamo.exc.Unsupported:
        pytest.skip("this version of torch does not compile quantiles")


def make_view(seed: int) -> DenseView:
    """A view of 4 images, 3 classes and 5 channels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])
    features = torch.randn(4, 5, 6, 6, generator=generator).requires_grad_()
    return DenseView(features, torch.randn(4, 4, 6, 6, generator=generator), labels)


def assert_equal(name: str, value: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare two results; of histograms, a rounded score may fall into the next bin."""
    tolerance = {"atol": 5e-3, "rtol": 0.0} if name == "distributions" else {}
    torch.testing.assert_close(value, expected, **tolerance, msg=lambda found: f"{name}: {found}")


def assert_equal_states(first: nn.Module, second: nn.Module) -> None:
    """Compare all buffers and counters."""
    for name, value in first.state_dict().items():
        assert_equal(name, second.state_dict()[name], value)


@pytest.mark.usefixtures("quantile_compiles")
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_the_loss(backend: str) -> None:
    eager = FBRLoss(SHAPE, LOSS)
    compiled = deepcopy(eager)
    compiled.compile(backend=backend, fullgraph=True)
    for step in range(4):
        totals, gradients = [], []
        for loss in (eager, compiled):
            view = make_view(step)
            terms = loss(view)
            inputs = [view.features, *loss.parameters()]
            gradients.append(torch.autograd.grad(terms.total, inputs))
            totals.append(terms)
        assert (totals[1].fg > 0) == (step > 0)
        for value, expected in zip((*totals[1], *gradients[1]), (*totals[0], *gradients[0]), strict=True):
            torch.testing.assert_close(value, expected)
    assert_equal_states(eager, compiled)


@pytest.mark.usefixtures("quantile_compiles")
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_the_gate(backend: str) -> None:
    eager = ClassAwareGate(SHAPE, GATE)
    compiled = deepcopy(eager)
    compiled.compile(backend=backend, fullgraph=True)
    for step in range(5):
        view = make_view(step)
        expected = eager.update(view)
        for name, value in compiled.update(view)._asdict().items():
            assert_equal(name, value, getattr(expected, name))
    assert eager.reclusters == 2
    assert_equal_states(eager, compiled)


def test_the_gate_at_inference() -> None:
    gate = ClassAwareGate(SHAPE, GATE)
    for step in range(3):
        gate.update(make_view(step))

    def predict(view: DenseView) -> torch.Tensor:
        lowered = gate_scores(gate, view.scores[:, 1:].relu(), [view.features])
        return gate.match(fbr.cams_to_seeds(lowered, view.labels))

    compiled = torch.compile(predict, backend="eager", fullgraph=True)
    for step in range(2):
        view = make_view(step)
        expected = predict(view)
        assert not expected.equal(fbr.cams_to_seeds(view.scores[:, 1:], view.labels))
        torch.testing.assert_close(compiled(view), expected)


def test_an_update_inside_a_compiled_step() -> None:
    gate, view = ClassAwareGate(SHAPE, GATE), make_view(0)
    step = torch.compile(lambda: gate.update(view).mean_gate + 1, backend="eager")
    for _ in range(5):
        step()
    assert (gate.step, gate.reclusters) == (5, 2)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a compiler of C++")
def test_draws_of_compiled_code_are_the_same() -> None:
    gate = ClassAwareGate(SHAPE, GATE)
    for shape, dtype in (((1001,), torch.float32), ((5, 7), torch.float64)):
        torch._dynamo.reset()
        draw = torch.compile(lambda s=shape, d=dtype: gate.generator(3).rand(s, d), fullgraph=True)
        assert torch.equal(draw(), gate.generator(3).rand(shape, dtype))


@pytest.mark.slow
def test_reclustering() -> None:
    eager = ClassAwareGate(SHAPE, GATE)
    eager.update(make_view(0))
    compiled = deepcopy(eager)
    recluster = torch.compile(compiled.recluster, backend="eager", fullgraph=True)
    for view in range(2):
        recluster(compiled.generator(view))
        eager.recluster(eager.generator(view))
        assert eager.clusters.any()
        assert_equal_states(eager, compiled)
