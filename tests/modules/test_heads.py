"""The projection heads and the background classifier, in closed forms."""

import pytest
import torch
import torch.nn.functional as F

from fbr_plugin.modules import BackgroundClassifier, ProjectionHeads


def test_projections_start_xavier_uniform(generator: torch.Generator) -> None:
    heads = ProjectionHeads(30, 120, generator)
    for weight in (heads.foreground, heads.background):
        assert weight.shape == (120, 30, 1, 1)
        assert 0.99 * (6 / 150) ** 0.5 < weight.abs().max() <= (6 / 150) ** 0.5
        assert weight.std().item() == pytest.approx((2 / 150) ** 0.5, rel=0.05)
    assert not torch.equal(heads.foreground, heads.background)


def test_dropout_keeps_the_expected_logit(generator: torch.Generator) -> None:
    classifier = BackgroundClassifier(10_000, dropout=0.25)
    torch.nn.init.constant_(classifier.weight, 1e-4)
    torch.nn.init.constant_(classifier.bias, 0.5)
    hidden = torch.ones(1, 10_000, 1, 1)
    classifier.normalise = lambda projection: projection
    kept = classifier(hidden, generator).item() - 0.5
    assert kept == pytest.approx(1, abs=4.5 * (0.25 / 0.75 / 10_000) ** 0.5)
    assert kept != pytest.approx(1, abs=1e-6)
    assert classifier.eval()(hidden).item() == pytest.approx(1.5, rel=1e-4)


def test_projections_are_128_wide_unless_told() -> None:
    assert ProjectionHeads(5).foreground.shape == (128, 5, 1, 1)
    assert BackgroundClassifier().weight.shape == (1, 128, 1, 1)
    assert BackgroundClassifier().dropout == 0.5


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("frozen", ["nothing", "features", "heads"])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_projections_are_1x1_convolutions(form: torch.memory_format, frozen: str, autocast: bool) -> None:
    torch.manual_seed(0)
    heads = ProjectionHeads(7, 5).requires_grad_(frozen != "heads")
    features = torch.randn(3, 7, 4, 6).to(memory_format=form).requires_grad_(frozen != "features")
    outer, found = torch.randn(3, 10, 4, 6), []
    trained = [each for each in (features, heads.foreground, heads.background) if each.requires_grad]
    for own in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            if own:
                foreground, _, background, _ = heads(features)
            else:
                foreground = F.conv2d(features, heads.foreground).relu()
                background = F.conv2d(features, heads.background)
        both = torch.cat([foreground, background], 1)
        assert both.dtype == (torch.bfloat16 if autocast else torch.float32)
        found.append((both, *torch.autograd.grad(both, trained, outer.to(both.dtype))))
    for first, second in zip(*found, strict=True):
        tolerance = 0.05 if autocast else 1e-5
        torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)
        assert first.dtype == second.dtype


def test_the_gradient_of_the_weights_in_half_precision_is_summed_in_float32() -> None:
    heads = ProjectionHeads(1, 1).bfloat16()
    torch.nn.init.ones_(heads.background)
    features = torch.full((513, 1, 1, 1), 1.0, dtype=torch.bfloat16)
    heads(features).before_relu.sum().backward()
    assert heads.background.grad.item() == 512  # 513, rounded once; 256 + 1 is 256 in bfloat16


def test_projections_in_half_precision_may_have_a_large_sum() -> None:
    heads = ProjectionHeads(1, 1).half()
    torch.nn.init.ones_(heads.foreground)
    projections = heads(
        torch.full((1, 1, 64, 64), 100.0, dtype=torch.float16)
    )  # 409,600: infinite in float16
    assert projections.finite
    assert (projections.foreground == 100).all()


def test_features_that_are_not_finite_are_projected_to_0() -> None:
    heads = ProjectionHeads(3, 4)
    *projections, finite = heads(torch.full((1, 3, 2, 2), torch.nan))
    assert not finite
    assert all((each == 0).all() for each in projections)


@pytest.mark.parametrize("fixed", [False, True])
def test_the_mode_of_the_normalisation(fixed: bool) -> None:
    classifier = BackgroundClassifier(4, fixed=fixed)
    assert classifier.norm.training == (not fixed)
    assert classifier.eval() is classifier
    assert not classifier.norm.training
    assert classifier.train().training
    assert classifier.norm.training == (not fixed)
    torch.testing.assert_close(classifier.norm.bias, torch.full((4,), 1e-4 if fixed else 0.0))
    assert classifier.bias.item() == 0
