"""Channels-last features: the same values and gradients, in that format, without a copy."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from helpers.made import MadeTensors

from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, GateConfig, ViewShape, gate_scores

SHAPE = ViewShape(64, 3, level_channels=40)
LOSS = FBRConfig(dim=4, num_clusters=3, bank_size=100, min_bank=4, num_negatives=9)
GATE = GateConfig(num_prototypes=2, num_clusters=4, background_rows=30, class_rows=10, recluster_every=2)


def in_format(view: DenseView, form: torch.memory_format) -> DenseView:
    """The view with maps in a memory format, and features that take a gradient."""
    features = view.features.clone(memory_format=form).requires_grad_()
    levels = tuple(level.clone(memory_format=form) for level in view.levels)
    return replace(view, features=features, scores=view.scores.clone(memory_format=form), levels=levels)


def make_view(step: int) -> DenseView:
    """A view of 4 images with a level of twice the grid."""
    generator = torch.Generator().manual_seed(step)
    features, scores = (torch.randn(4, each, 10, 10, generator=generator) for each in (64, 4))
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])
    return DenseView(features, scores, labels, levels=(torch.randn(4, 40, 20, 20, generator=generator),))


FORMATS = (torch.contiguous_format, torch.channels_last)


def test_the_loss() -> None:
    losses = [FBRLoss(SHAPE, LOSS)]
    losses.append(deepcopy(losses[0]))
    for step in range(2):
        views = [in_format(make_view(step), form) for form in FORMATS]
        totals = []
        for loss, view in zip(losses, views, strict=True):
            with MadeTensors() as made:
                totals.append(loss(view).total)
            assert 1000 < max(made.sizes) < view.features.numel()
            totals[-1].backward()
        torch.testing.assert_close(*totals)
        gradients = [view.features.grad for view in views]
        torch.testing.assert_close(*gradients)
        for gradient, form in zip(gradients, FORMATS, strict=True):
            assert gradient is not None
            assert gradient.is_contiguous(memory_format=form)


@pytest.mark.parametrize("same", [False, True])
def test_the_gate(same: bool) -> None:
    shape = ViewShape(64, 3, level_channels=64 if same else 40)
    gates = [ClassAwareGate(shape, GATE)]
    gates.append(deepcopy(gates[0]))
    for step in range(3):
        view = make_view(step)
        views = [in_format(replace(view, levels=() if same else view.levels), form) for form in FORMATS]
        terms = []
        for gate, own in zip(gates, views, strict=True):
            with MadeTensors() as made:
                terms.append(gate.learn(own))
            large = [size for size in made.sizes if size >= own.gate_levels[0].numel()]
            assert len(large) == (2 if same else 0)  # the unit vectors and their squares
            gate.recluster(gate.generator(9))
        for name, first, second in zip(terms[0]._fields, *terms, strict=True):  # rounding changes single bins
            torch.testing.assert_close(
                first, second, rtol=1e-5, atol=1e-2 if name == "distributions" else 1e-5
            )
    lowered = [
        gate_scores(gate, view.scores[:, 1:].relu(), view.gate_levels)
        for gate, view in zip(gates, views, strict=True)
    ]
    torch.testing.assert_close(*lowered)
    assert (lowered[0] < views[0].scores[:, 1:].relu()).any()
