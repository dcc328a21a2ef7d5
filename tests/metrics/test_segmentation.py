import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.damage import DAMAGES
from PIL import Image
from torch import Tensor

from fbr_plugin.metrics import SeedSweep, SegmentationResult, SegmentationScore

BACKGROUND_THRESHOLDS = (0.0, 0.1, 0.25, 0.5)


def naive(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> tuple[float, list[float]]:
    """Mean and class intersection over union by sets of pixels, in percent."""
    known = target != 255
    ious = []
    for index in range(num_classes + 1):
        a, b = (prediction == index) & known, (target == index) & known
        union = (a | b).sum()
        ious.append(100 * (a & b).sum() / union if union else math.nan)
    return float(np.nanmean(ious)), ious


def masks(generator: torch.Generator, *shape: int, num_classes: int = 3) -> Tensor:
    labels = torch.randint(0, num_classes + 2, shape, generator=generator)
    return labels.masked_fill(labels == num_classes + 1, 255)


def test_score_equals_sets_of_pixels_over_several_updates(generator: torch.Generator) -> None:
    prediction, target = masks(generator, 4, 9, 7), masks(generator, 4, 9, 7)
    score = SegmentationScore(3)
    score.update(prediction[:3], target[:3])
    score.update(prediction[3], target[3].to(torch.uint8))
    result = score.compute()
    mean, ious = naive(prediction.numpy(), target.numpy(), 3)
    assert result.miou == pytest.approx(mean, rel=1e-12)
    assert result.iou == pytest.approx(ious, rel=1e-12)
    known, hit = target != 255, prediction == target
    foreground, found = known & (target > 0), known & (prediction > 0) & (prediction != 255)
    assert result.recall == pytest.approx(100 * hit[foreground].double().mean().item())
    assert result.precision == pytest.approx(100 * hit[found].double().mean().item())
    assert result.accuracy == pytest.approx(100 * hit[known].double().mean().item())
    assert result.unlabelled == pytest.approx(100 * (prediction[known] == 255).double().mean().item())


def test_counts_of_single_images_add_up_to_the_score(generator: torch.Generator) -> None:
    prediction, target = masks(generator, 4, 9, 7), masks(generator, 4, 9, 7)
    score = SegmentationScore(3)
    counts = [score.count(*pair) for pair in zip(prediction, target, strict=True)]
    assert not score.confusion.any(), "counting changes nothing"
    score.update(prediction, target)
    assert torch.equal(sum(counts), score.confusion)


@pytest.mark.slow
def test_damaged_copies_of_all_real_masks(real_data: Path) -> None:
    scores = [SegmentationScore(20) for _ in DAMAGES]
    common, either = np.zeros((2, len(DAMAGES), 21), np.int64)
    paths = sorted((real_data / "voc12" / "SegmentationClassAug").glob("*.png"))
    for path in paths:
        target = np.array(Image.open(path))
        for row, (damage, score) in enumerate(zip(DAMAGES, scores, strict=True)):
            prediction = damage(target)
            score.update(torch.from_numpy(prediction), torch.from_numpy(target))
            prediction[target == 255] = 255
            for index in {*np.unique(prediction), *np.unique(target)} - {255}:
                a, b = prediction == index, target == index
                common[row, index] += np.count_nonzero(a & b)
                either[row, index] += np.count_nonzero(a | b)
    assert len(paths) == 1464
    for score, ious in zip(scores, 100 * common / either, strict=True):
        assert score.compute().iou == pytest.approx(ious.tolist(), abs=1e-9)
        assert score.compute().miou == pytest.approx(ious.mean(), abs=1e-9)


def test_absent_class_is_nan_named_and_left_out_of_the_mean() -> None:
    score = SegmentationScore(3)
    score.update(torch.tensor([[0, 1], [1, 255]]), torch.tensor([[0, 1], [0, 2]]))
    result = score.compute()
    assert result.absent == (3,)
    assert result.iou[:3] == (50.0, 50.0, 0.0)
    assert math.isnan(result.iou[3])
    assert result.miou == pytest.approx(100 / 3)


def test_nothing_counted_is_nan() -> None:
    score = SegmentationScore(2)
    score.update(torch.zeros(2, 2, dtype=torch.long), torch.full((2, 2), 255))
    assert math.isnan(score.compute().miou)
    assert score.compute().absent == (0, 1, 2)


def test_counts_beyond_32_bits_stay_exact() -> None:
    score = SegmentationScore(1)
    score.update(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    score.confusion += torch.tensor([[2**40, 1, 0], [0, 2**40, 0]])
    assert score.confusion.dtype == torch.int64
    assert score.compute().accuracy < 100
    score.bfloat16()
    assert score.confusion[0, 0] == 2**40 + 1


def test_score_rejects_wrong_input() -> None:
    score, zeros = SegmentationScore(3), torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"prediction is \(2, 2\), target \(2, 3\)"):
        score.update(zeros, torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"target holds the value 4: classes are 0 \(background\) to 3"):
        score.update(zeros, torch.tensor([[0, 1], [4, 255]]))
    with pytest.raises(ValueError, match="prediction holds the value -1"):
        score.update(torch.tensor([[0, 1], [-1, 255]]), zeros)
    with pytest.raises(ValueError, match="prediction holds the value 256"):
        score.update(torch.tensor([[0, 1], [256, 255]]), zeros)
    with pytest.raises(TypeError, match=r"prediction must hold integer class numbers, got torch\.float32"):
        score.update(zeros.float(), zeros)
    for wrong in (0, 255):
        with pytest.raises(ValueError, match=f"1 to 254 foreground classes, got {wrong}"):
            SegmentationScore(wrong)


def test_sweep_equals_one_evaluation_for_each_threshold(generator: torch.Generator) -> None:
    seed = torch.rand(4, 3, 8, 6, generator=generator)
    seed[:, :, :4] = (seed[:, :, :4] * 20).round() / 20  # scores that lie on thresholds
    seed[0, 1] = 0
    target = masks(generator, 4, 8, 6)
    sweep = SeedSweep(3, BACKGROUND_THRESHOLDS)
    sweep.update(seed[:2], target[:2])
    for single, mask in zip(seed[2:], target[2:], strict=True):
        sweep.update(single, mask)
    result = sweep.compute()
    assert result.thresholds == BACKGROUND_THRESHOLDS
    expected: list[SegmentationResult] = []
    for threshold in BACKGROUND_THRESHOLDS:
        score, best = seed.max(1)
        prediction = torch.where(score > threshold, best + 1, 0)
        reference = SegmentationScore(3)
        reference.update(prediction, target)
        expected.append(reference.compute())
    assert result.results == tuple(expected)
    best_index = int(np.argmax([one.miou for one in expected]))
    assert result.oracle_threshold == BACKGROUND_THRESHOLDS[best_index]
    assert result.oracle == expected[best_index]
    assert result.at(0.25) == expected[2]
    with pytest.raises(ValueError, match=r"threshold 0\.3 is not in"):
        result.at(0.3)


def test_score_on_the_threshold_is_background() -> None:
    sweep = SeedSweep(1, [0.35])
    sweep.update(torch.tensor([[[0.35, 0.36]]]), torch.tensor([[0, 1]]))
    assert sweep.compute().oracle.miou == 100


def test_default_thresholds_are_those_of_the_field() -> None:
    thresholds = SeedSweep(1).thresholds
    assert {step / 100 for step in range(100)} < {*thresholds}
    assert (len(thresholds), thresholds[1], thresholds[-1]) == (124, 0.001, 0.99)
    steps = [(low, high - low) for low, high in pairwise(thresholds)]
    assert all(step < max(low / 4.9, 0.00101) for low, step in steps)  # fine where thresholds are low


def test_two_halves_add_up_to_the_whole(generator: torch.Generator) -> None:
    seed, target = torch.rand(2, 3, 5, 5, generator=generator), masks(generator, 2, 5, 5)
    whole, halves = SeedSweep(3), [SeedSweep(3), SeedSweep(3)]
    whole.update(seed, target)
    for half, single, mask in zip(halves, seed, target, strict=True):
        half.update(single, mask)
    assert torch.equal(whole.counts, halves[0].counts + halves[1].counts)


def test_channels_of_absent_classes_may_be_left_out(generator: torch.Generator) -> None:
    seed, target, keys = (
        torch.rand(3, 6, 6, generator=generator),
        masks(generator, 6, 6),
        torch.tensor([2, 0]),
    )
    seed[1] = 0
    whole, compact = SeedSweep(3, BACKGROUND_THRESHOLDS), SeedSweep(3, BACKGROUND_THRESHOLDS)
    whole.update(seed, target)
    whole.update(torch.zeros(3, 6, 6), target)
    compact.update(seed[keys], target, keys)
    compact.update(torch.zeros(0, 6, 6), target, keys[:0])
    assert compact.compute() == whole.compute()
    with pytest.raises(ValueError, match=r"keys must be 0 to 2, got \[3\]"):
        compact.update(seed[:1], target, torch.tensor([3]))
    with pytest.raises(ValueError, match=r"C=2 foreground channels .* got \(3, 6, 6\)"):
        compact.update(seed, target, keys)


def test_sweep_rejects_wrong_input() -> None:
    sweep, target = SeedSweep(3), torch.zeros(4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"C=3 foreground channels .* got \(4, 4, 4\)"):
        sweep.update(torch.rand(4, 4, 4), target)
    with pytest.raises(ValueError, match="seed holds NaN"):
        sweep.update(torch.full((3, 4, 4), math.nan), target)
    with pytest.raises(ValueError, match=r"seed is \(3, 4, 5\), target \(4, 4\)"):
        sweep.update(torch.rand(3, 4, 5), target)
    with pytest.raises(ValueError, match="target holds the value 9"):
        sweep.update(torch.rand(3, 4, 4), target + 9)
    for wrong in ((), (0.2, 0.1), (0.1, 0.1), (0.0, math.nan), (-0.1, 0.1)):
        with pytest.raises(ValueError, match="in ascending order"):
            SeedSweep(3, wrong)
