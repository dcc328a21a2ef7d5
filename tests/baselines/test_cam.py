"""CAM's pooling and classifier."""

import pytest
import torch

from fbr_plugin.baselines.cam.module import CAM
from fbr_plugin.baselines.cam.network import thresholded_average


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


@pytest.mark.parametrize(
    ("name", "trained"), [("small", ["blocks.1", "blocks.2"]), ("resnet18", ["layer3", "layer4"])]
)
def test_frozen_levels(name: str, trained: list[str]) -> None:
    model = CAM(3, encoder=name, frozen_levels=2 if name == "small" else 3).train()
    learning = {key for key, value in model.encoder.named_parameters() if value.requires_grad}
    assert learning == {
        key for key, _ in model.encoder.named_parameters() if any(part in key for part in trained)
    }
    assert all(module.training for module in model.encoder.modules())


@pytest.mark.parametrize("number", [-1, 4])
def test_frozen_levels_that_do_not_exist(number: int) -> None:
    with pytest.raises(
        ValueError, match=f"frozen_levels must be 0 to 3, as SmallEncoder has 4 levels, got {number}"
    ):
        CAM(3, encoder="small", frozen_levels=number)


def test_unknown_pooling() -> None:
    with pytest.raises(ValueError, match="pooling must be one of 'gap', 'tap', got 'max'"):
        CAM(3, encoder="small", pooling="max")  # type: ignore[arg-type]
