"""PPC's losses against plain loops in double precision, and in the corners."""

import pytest
import torch
from helpers import naive_ppc as naive
from torch import Tensor

from fbr_plugin.baselines.ppc import losses as ppc_losses
from fbr_plugin.baselines.ppc import seam_losses

BATCH, CLASSES, SIDE = 2, 4, 6
LABEL = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0]], dtype=torch.float64)


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def agree(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    """Compare two losses and their gradients."""
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)
    gradients = [
        torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True) for loss in (ours, theirs)
    ]
    for own, other in zip(*gradients, strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            assert own.abs().max() > 0
            torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-12)


def test_max_normalise(generator: torch.Generator) -> None:
    maps = random(generator, BATCH, CLASSES, SIDE, SIDE)
    weights = random(generator, BATCH, CLASSES, SIDE, SIDE).detach()
    shifted = maps + torch.tensor([0.0, 5.0]).view(1, 2, 1, 1).repeat(1, 2, 1, 1)
    ours, theirs = seam_losses.max_normalise(shifted), naive.max_normalise(shifted)
    agree((ours * weights).sum(), (theirs * weights).sum(), maps)
    assert seam_losses.max_normalise(torch.zeros(1, 1, 3, 3)).eq(0).all()


def test_equivariance(generator: torch.Generator) -> None:
    cams = tuple(random(generator, BATCH, CLASSES, SIDE, SIDE) for _ in range(2))
    refined = tuple(random(generator, BATCH, 1 + CLASSES, SIDE, SIDE) for _ in range(2))
    er, ecr = seam_losses.equivariance(cams, refined)
    expected = sum(abs(a - b) for a, b in zip(cams[0].flatten(), cams[1].flatten(), strict=True))
    agree(er, expected / cams[0].numel(), *cams)
    agree(ecr, naive.regularisation(cams, refined, 0.2), *refined)
    assert torch.autograd.grad(ecr, cams, allow_unused=True) == (None, None)


def test_adaptive_min_pooling(generator: torch.Generator) -> None:
    maps = random(generator, BATCH, CLASSES, SIDE, SIDE)
    agree(seam_losses.adaptive_min_pooling(maps), naive.min_pooling(maps), maps)
    assert seam_losses.adaptive_min_pooling(torch.full((1, 2, 1, 1), 3.0)) == 3


@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_saliency(overlap: float, generator: torch.Generator) -> None:
    logits = (3 * random(generator, BATCH, 1 + CLASSES, SIDE, SIDE)).detach().requires_grad_()
    target = torch.rand(BATCH, SIDE, SIDE, generator=generator, dtype=torch.float64)
    ours = seam_losses.saliency_loss(logits, target, LABEL, overlap)
    agree(ours, naive.saliency(logits, target, LABEL, overlap, 0.5), logits)


def test_saliency_sorts_classes_by_their_overlap() -> None:
    """Of two classes that each fill a half, the one on salient ground is foreground, the other background."""
    logits = torch.full((1, 3, 2, 2), -20.0)
    logits[0, 1, 0] = logits[0, 2, 1] = 20.0
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert seam_losses.saliency_loss(logits, target, torch.ones(1, 2)) < 1e-6
    assert seam_losses.saliency_loss(logits, torch.ones(1, 2, 2), torch.ones(1, 2)) < 1e-6
    # A class that the image lacks is neither.
    torch.testing.assert_close(
        seam_losses.saliency_loss(logits, target, torch.tensor([[1.0, 0.0]])), torch.tensor(0.125)
    )


def views(generator: torch.Generator) -> tuple[list[Tensor], list[ppc_losses.ContrastView], list]:
    """Projections, our views and the naive ones."""
    projections, ours, theirs = [], [], []
    for _ in range(2):
        projection, scores = (
            random(generator, BATCH, 5, SIDE, SIDE),
            random(generator, BATCH, CLASSES, SIDE, SIDE),
        )
        projections.append(projection)
        ours.append(ppc_losses.contrast_view(projection, scores, LABEL))
        theirs.append(naive.prototypes(projection, scores, LABEL, 0.2, SIDE * SIDE // 8))
    return projections, ours, theirs


def test_pseudo_labels_and_prototypes(generator: torch.Generator) -> None:
    _, ours, theirs = views(generator)
    for view, (labels, keys) in zip(ours, theirs, strict=True):
        assert view.labels.tolist() == labels
        assert view.present.nonzero()[:, 0].tolist() == sorted(keys)
        for c, key in keys.items():
            torch.testing.assert_close(view.prototypes[c], key, rtol=1e-8, atol=1e-12)
        assert not view.prototypes.requires_grad


def test_cross_view_contrast(generator: torch.Generator) -> None:
    projections, (first, second), ((labels1, keys1), (labels2, keys2)) = views(generator)
    by_prototype, by_label = ppc_losses.cross_view_contrast(first, second)
    pixels1, pixels2 = (naive.rows(projection) for projection in projections)
    expected = naive.prototype_contrast(pixels1, labels1, keys2, 0.1)
    expected = (expected + naive.prototype_contrast(pixels2, labels2, keys1, 0.1)) / 2
    agree(by_prototype, expected, *projections)
    expected = naive.prototype_contrast(pixels1, labels2, keys1, 0.1)
    expected = (expected + naive.prototype_contrast(pixels2, labels1, keys2, 0.1)) / 2
    agree(by_label, expected, *projections)


def test_a_class_without_prototype_is_left_out(generator: torch.Generator) -> None:
    projections, (view, _), ((labels, keys), _) = views(generator)
    present = view.present.clone()
    present[2] = False
    del keys[2]
    ours = ppc_losses.prototype_contrast(view.features, view.labels, view.prototypes, present)
    agree(ours, naive.prototype_contrast(naive.rows(projections[0]), labels, keys, 0.1), projections[0])
    nothing = ppc_losses.prototype_contrast(
        view.features[:1], view.labels[:1], view.prototypes, ~view.present
    )
    assert nothing == 0
    assert torch.autograd.grad(nothing, projections[0])[0].eq(0).all()


def test_intra_view_contrast(generator: torch.Generator) -> None:
    projections, ours, theirs = views(generator)
    for projection, view, (labels, keys) in zip(projections, ours, theirs, strict=True):
        assert view.present.all()  # 5 prototypes: the 2nd and 3rd by similarity
        noise = torch.rand(len(labels), generator=generator, dtype=torch.float64)
        expected = naive.intra_view(naive.rows(projection), labels, keys, noise, (2, 3), 0.1)
        agree(ppc_losses.intra_view_contrast(view, noise), expected, projection)


def test_intra_view_contrast_with_all_prototypes_of_voc(generator: torch.Generator) -> None:
    """21 prototypes: the 4th to 13th."""
    pixels = random(generator, 90, 8)
    labels = torch.randint(21, (90,), generator=generator)
    keys = torch.nn.functional.normalize(random(generator, 21, 8).detach(), dim=1)
    noise = torch.rand(90, generator=generator, dtype=torch.float64)
    features = torch.nn.functional.normalize(pixels, dim=1)
    view = ppc_losses.ContrastView(features, labels, keys, torch.ones(21, dtype=torch.bool))
    by_class = dict(enumerate(keys))
    expected = naive.intra_view(pixels, labels.tolist(), by_class, noise, (4, 13), 0.1)
    agree(ppc_losses.intra_view_contrast(view, noise), expected, pixels)


@pytest.mark.parametrize(
    ("count", "first", "last"), [(21, 4, 13), (81, 13, 50), (6, 2, 4), (4, 2, 2), (2, 2, 2), (1, 2, 1)]
)
def test_ranks_of_semi_hard_prototypes(count: int, first: int, last: int, generator: torch.Generator) -> None:
    similarity = torch.rand(7, count + 3, generator=generator)
    present = torch.ones(count + 3, dtype=torch.bool)
    present[[0, 2, count + 2]] = False
    chosen = ppc_losses.semi_hard_prototypes(similarity, present)
    for values, taken in zip(similarity, chosen, strict=True):
        ranked = sorted(present.nonzero()[:, 0].tolist(), key=lambda c: -values[c].item())
        assert sorted(ranked[first - 1 : last]) == taken.nonzero()[:, 0].tolist()


def test_hard_pixels(generator: torch.Generator) -> None:
    sizes = (0, 1, 2, 3, 5, 10, 33)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    similarity, noise = torch.rand(2, len(labels), generator=generator)
    weights = ppc_losses.hard_pixel_weights(similarity, labels, len(sizes), noise)
    for label, size in enumerate(sizes):
        own = (labels == label).nonzero()[:, 0]
        expected = torch.zeros(size)
        for pixel in naive.sampled(similarity[own].tolist(), noise[own].tolist()):
            expected[pixel] += 1
        assert torch.equal(weights[own], expected)
        assert weights[own].sum() == 2 * (size // 2)


def test_only_background_costs_nothing(generator: torch.Generator) -> None:
    projection = random(generator, BATCH, 5, SIDE, SIDE)
    scores, label = torch.randn(BATCH, CLASSES, SIDE, SIDE, dtype=torch.float64), torch.zeros(BATCH, CLASSES)
    view = ppc_losses.contrast_view(projection, scores, label)
    assert view.present.tolist() == [True, *[False] * CLASSES]
    noise = torch.rand(len(view.labels), dtype=torch.float64)
    losses = torch.stack(
        [*ppc_losses.cross_view_contrast(view, view), ppc_losses.intra_view_contrast(view, noise)]
    )
    assert losses.abs().max() < 1e-12
    assert torch.autograd.grad(losses.sum(), projection)[0].abs().max() < 1e-12
