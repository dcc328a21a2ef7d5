"""CAM's pooling and classifier."""

import pytest
import torch
from torch import nn

from fbr_plugin.baselines.cam.module import CAM
from fbr_plugin.baselines.cam.network import thresholded_average
from fbr_plugin.baselines.tasks.optimizer import poly_factor


def test_thresholded_average_against_a_loop() -> None:
    features = torch.randn(2, 4, 5, 6)
    features[0, 0] = -1.0
    pooled = thresholded_average(features, 0.1)
    for image in range(2):
        for channel in range(4):
            values = features[image, channel].flatten().tolist()
            kept = [value for value in values if value > 0.1 * max(values) and value > 0]
            expected = sum(kept) / len(kept) if kept else 0.0
            assert pooled[image, channel].item() == pytest.approx(expected, abs=1e-6)


def test_gap_logits_are_the_mean_of_the_maps() -> None:
    model = CAM(3, encoder="small").eval()
    logits, levels = model(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(logits, model.head(levels[-1]).mean((2, 3)))


def test_unknown_pooling() -> None:
    with pytest.raises(ValueError, match="pooling must be one of 'gap', 'tap', got 'max'"):
        CAM(3, encoder="small", pooling="max")  # type: ignore[arg-type]


def test_poly_schedule() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: poly_factor(step, 10, 0.9, 4))
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    expected = [2.0 * min(1, (step + 1) / 4) * (1 - step / 10) ** 0.9 for step in range(10)]
    assert rates == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == 0
    assert poly_factor(7, 10, 0) == 1
    assert poly_factor(7, float("inf"), 0.9) == 1
