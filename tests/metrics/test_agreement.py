import pytest
import torch

from fbr_plugin.metrics import ViewAgreement

BACKGROUND_THRESHOLDS = (0.0, 0.2, 0.4, 0.6)


def naive_agreement(first: torch.Tensor, second: torch.Tensor, threshold: float) -> float:
    """The docstring's formula pixel by pixel, pooled over both directions."""
    sums = dict.fromkeys(("inside", "mask", "soft", "outside", "complement", "rest"), 0.0)
    for mask_view, score_view in ((first, second), (second, first)):
        batch, _, height, width = mask_view.shape
        for b in range(batch):
            for i in range(height):
                for j in range(width):
                    named = int(mask_view[b, :, i, j].argmax())
                    p, on = float(score_view[b, named, i, j]), float(mask_view[b, named, i, j]) > threshold
                    sums["inside"] += p * on
                    sums["mask"] += on
                    sums["soft"] += p
                    sums["outside"] += (1 - p) * (not on)
                    sums["complement"] += not on
                    sums["rest"] += 1 - p
    foreground = sums["inside"] / (sums["soft"] + sums["mask"] - sums["inside"])
    background = sums["outside"] / (sums["rest"] + sums["complement"] - sums["outside"])
    return 50 * (foreground + background)


def test_equals_the_formula(generator: torch.Generator) -> None:
    first, second = torch.rand(2, 3, 2, 5, 4, generator=generator)
    metric = ViewAgreement(2, BACKGROUND_THRESHOLDS)
    metric.update(first[:2], second[:2])
    metric.update(first[2], second[2])
    result = metric.compute()
    expected = [naive_agreement(first, second, threshold) for threshold in BACKGROUND_THRESHOLDS]
    assert result.agreement == pytest.approx(expected, abs=1e-4)
    assert result.threshold == BACKGROUND_THRESHOLDS[expected.index(max(expected))]


def test_finds_the_gap_between_certain_and_uncertain_pixels(generator: torch.Generator) -> None:
    """An object scored .7 to 1 on a background of 0 to .3: the threshold lies in the gap."""
    truth = torch.zeros(20, 20, dtype=torch.bool)
    truth[5:12, 5:12] = True
    views = [(0.3 * torch.rand(1, 20, 20, generator=generator) + 0.7 * truth) for _ in range(2)]
    metric = ViewAgreement(1)
    metric.update(*views)
    assert 0.28 <= metric.compute().threshold < 0.7


def test_empty_seeds_do_not_divide_by_zero() -> None:
    metric = ViewAgreement(2, BACKGROUND_THRESHOLDS)
    metric.update(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3))
    assert metric.compute().agreement == (50.0,) * 4
    assert metric.compute().threshold == 0.0


def test_states_survive_half_precision_modules() -> None:
    metric = ViewAgreement(1, BACKGROUND_THRESHOLDS)
    metric.update(torch.full((1, 3, 3), 0.3), torch.full((1, 3, 3), 0.3))
    holder = torch.nn.ModuleList([metric]).to(torch.bfloat16)
    assert {metric.counts.dtype, metric.mass.dtype} == {torch.int64}
    assert len(list(holder.modules())) == 2


def test_rejects_wrong_input() -> None:
    metric, seed = ViewAgreement(2), torch.rand(2, 3, 3)
    with pytest.raises(ValueError, match=r"views are \(2, 3, 3\) and \(2, 3, 4\)"):
        metric.update(seed, torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match=r"second view must have scores in \[0, 1\], got .* to 3"):
        metric.update(seed, torch.full((2, 3, 3), 3.0))
    with pytest.raises(ValueError, match="first view must be"):
        metric.update(torch.rand(3, 3, 3), torch.rand(3, 3, 3))
