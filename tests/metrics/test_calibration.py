"""A threshold from the masks of a few images, and its expected loss, against plain loops."""

import math

import pytest
import torch
from helpers.processes import launch
from torch import Tensor

from fbr_plugin.metrics import Calibration, SeedSweep
from fbr_plugin.metrics.calibration import calibrate
from fbr_plugin.metrics.sweep import BACKGROUND_THRESHOLDS

THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)


def images(count: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Noisy seeds of two classes, each on a scale of its own, and masks of several sizes with 255."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        size = (12, 10 + number % 3)
        mask = torch.randint(0, 3, (1,), generator=generator) * (torch.rand(size, generator=generator) > 0.5)
        noise = torch.rand((2, *size), generator=generator)
        scale = 0.3 + 0.7 * torch.rand(1, generator=generator)
        scores = scale * (torch.stack([mask == 1, mask == 2]) * 0.4 + 0.6 * noise)
        mask[torch.rand(size, generator=generator) > 0.9] = 255
        found.append((scores, mask))
    return found


def naive_miou(pairs: list[tuple[Tensor, Tensor]], threshold: float) -> float:
    """mIoU in percent, one class at a time."""
    values = []
    for index in range(3):
        inter = union = 0
        for scores, mask in pairs:
            best, known = scores.max(0), mask != 255
            predicted = torch.where(best.values > threshold, best.indices + 1, 0)[known] == index
            truth = mask[known] == index
            inter, union = inter + int((predicted & truth).sum()), union + int((predicted | truth).sum())
        if union:
            values.append(100 * inter / union)
    return sum(values) / len(values)


def filled(pairs: list[tuple[Tensor, Tensor]], thresholds: tuple[float, ...] = THRESHOLDS) -> Calibration:
    calibration = Calibration(2, thresholds)
    for number, pair in enumerate(pairs):
        calibration.update(f"image_{number:03d}", *pair)
    return calibration


def test_the_bootstrap_equals_a_plain_loop() -> None:
    pairs, resamples = images(4), 30
    counts = list(filled(pairs).counts.values())
    found = calibrate(counts, THRESHOLDS, resamples, seed=3)
    drawn = torch.randint(4, (resamples, 4), generator=torch.Generator().manual_seed(3))
    whole = [naive_miou(pairs, threshold) for threshold in THRESHOLDS]
    losses = []
    for draw in drawn.tolist():
        resample = [naive_miou([pairs[index] for index in draw], threshold) for threshold in THRESHOLDS]
        losses.append(max(whole) - whole[resample.index(max(resample))])
    assert found.threshold == THRESHOLDS[whole.index(max(whole))]
    assert found.loss == pytest.approx(sum(losses) / resamples)
    assert found.loss_std == pytest.approx(torch.tensor(losses).double().std().item())
    assert found.loss > 0
    assert found.num_images == 4


def test_calibrated_on_all_images_it_is_the_oracle() -> None:
    pairs, sweep = images(9), SeedSweep(2)
    for scores, mask in pairs:
        sweep.update(scores, mask)
    oracle = sweep.compute()
    assert filled(pairs, BACKGROUND_THRESHOLDS).compute().threshold == oracle.oracle_threshold
    assert oracle.oracle_threshold in {*BACKGROUND_THRESHOLDS}


def test_channels_of_absent_classes_may_be_left_out() -> None:
    scores, mask = images(1)[0]
    scores[0] = 0
    whole, compact = Calibration(2, THRESHOLDS), Calibration(2, THRESHOLDS)
    whole.update("a", scores, mask)
    compact.update("a", scores[1:], mask, torch.tensor([1]))
    assert torch.equal(whole.counts["a"], compact.counts["a"])


def test_more_images_lose_less_and_equal_images_nothing() -> None:
    pairs = images(40)
    assert filled(pairs).compute().loss < filled(pairs[:5]).compute().loss
    same = filled([pairs[0]] * 5).compute()
    assert (same.loss, same.loss_std) == (0, 0)


def test_one_image_is_no_sample() -> None:
    (scores, mask), other = images(2)
    ignored = torch.full_like(mask, 255)
    for calibration in (filled([other]), filled([other, (scores, ignored)])):
        with pytest.raises(
            ValueError, match=r"calibrated on 1 image\(s\) with a known pixel: give at least 2"
        ):
            calibration.compute()


def shared(number: int) -> dict[str, float | int]:
    """The result of a process that has every second image, and one that the other has too."""
    calibration = Calibration(2, THRESHOLDS)
    for index, pair in enumerate(images(5)):
        if index % 2 == number or index == 0:
            calibration.update(f"image_{index:03d}", *pair)
    return calibration.compute()._asdict()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path) -> None:
    single = filled(images(5)).compute()._asdict()
    assert launch(shared, tmp_path) == [single, single]
    assert not math.isnan(single["loss"])
