"""The monotone map from one distribution of scores to another."""

import numpy as np
import pytest
import torch

from fbr_plugin import functional as fbr


def test_matched_scores_have_the_distribution_of_the_target(generator):
    target = torch.rand(20000, generator=generator) ** 2
    source = target**3  # the same order, lowered
    matched = fbr.match_distribution(source, fbr.score_histogram(source), fbr.score_histogram(target))
    torch.testing.assert_close(matched, target, rtol=0, atol=3e-3)


def test_it_equals_quantile_matching(generator):
    source = torch.rand(5000, generator=generator) ** 5
    target = torch.rand(7000, generator=generator) * torch.rand(7000, generator=generator)
    probe = torch.linspace(0.001, 0.95, 50)
    matched = fbr.match_distribution(probe, fbr.score_histogram(source), fbr.score_histogram(target))
    levels = np.linspace(0, 1, 20001)
    quantiles = [np.quantile(scores.double().numpy(), levels) for scores in (source, target)]
    expected = np.interp(probe.double().numpy(), *quantiles)
    np.testing.assert_allclose(matched.numpy(), expected, atol=3e-3)


def test_order_and_ends_stay(generator):
    source, target = torch.rand(1000, generator=generator) ** 4, torch.rand(1000, generator=generator)
    histograms = fbr.score_histogram(source), fbr.score_histogram(target)
    matched = fbr.match_distribution(torch.linspace(0, 1, 5001), *histograms)
    assert matched[0] == 0
    assert matched[-1] == 1
    assert (matched.diff() >= 0).all()
    assert (fbr.match_distribution(source.sort().values, *histograms).diff() > 0).all()


@pytest.mark.parametrize("counts", [torch.zeros(fbr.BINS), torch.rand(fbr.BINS).round()])
def test_equal_distributions_change_nothing(counts, generator):
    probe = torch.rand(3, 40, generator=generator)
    torch.testing.assert_close(fbr.match_distribution(probe, counts, 7 * counts), probe, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_the_scores_stays(dtype):
    probe = torch.tensor([0.0, 0.25, 1.0], dtype=dtype)
    counts = torch.zeros(fbr.BINS)
    assert torch.equal(fbr.match_distribution(probe, counts, counts), probe)


def test_histogram_counts_what_is_above_zero():
    counts = fbr.score_histogram(torch.tensor([[0.0, 0.0, 1e-9], [0.25, 1.0, 1.0]]))
    assert counts.sum() == 4
    assert (counts[0], counts[fbr.BINS // 2], counts[-1]) == (1, 1, 2)
