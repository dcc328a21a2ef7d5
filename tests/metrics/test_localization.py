"""Localization metrics against plain loops over thresholds, pixels and boxes."""

import math
from collections.abc import Sequence
from itertools import product
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.metrics import BoxAccuracy, BoxSweep, CentreBox, CentreBoxResult, PixelSweep, true_class_ranks

SIZE = 224
STEPS = [step * 0.001 for step in range(1000)]


def scene(seed: int, height: int = 90, width: int = 130) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """A smooth score map [h, w], true boxes [n, 4] and the height and width of their image."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, [width // 2, height // 2], (int(rng.integers(1, 4)), 2))
    boxes = np.concatenate([corner, corner + rng.integers(10, 40, corner.shape)], 1)
    y, x = np.mgrid[:28, :28] / 28
    x0, y0, x1, y1 = (boxes[0] / [width, height, width, height]).tolist()
    bump = np.exp(-(((2 * x - x0 - x1) / (x1 - x0)) ** 2) - ((2 * y - y0 - y1) / (y1 - y0)) ** 2)
    noise = cv2.resize(rng.random((6, 6)), (28, 28))
    return torch.from_numpy(bump + noise), torch.from_numpy(boxes), (height, width)


def centre_box(boxes: Sequence[Tensor], sizes: Tensor) -> CentreBoxResult:
    """The centre box of images counted in two batches."""
    metric = CentreBox()
    metric.update(boxes[:1], sizes[:1])
    metric.update(boxes[1:], sizes[1:])
    return metric.compute()


def overlap(first: list[int], second: list[int]) -> float:
    """Intersection over union of two boxes, counting pixels."""
    wide = min(first[2], second[2]) - max(first[0], second[0]) + 1
    high = min(first[3], second[3]) - max(first[1], second[1]) + 1
    both = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (first, second)]
    return both / (sum(areas) - both)


def stretched(score: NDArray, interpolation: int) -> NDArray:
    score = cv2.resize(score, (SIZE, SIZE), interpolation=interpolation)
    return (score - score.min()) / (score.max() - score.min())


def naive_sweep(maps: list[Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]) -> SimpleNamespace:
    """Hits of the largest contour at IoU .5, and of any at each IoU, threshold by threshold."""
    largest, found = np.zeros(len(STEPS)), np.zeros((3, len(STEPS)))
    for score, given, (height, width) in zip(maps, boxes, sizes, strict=True):
        levels = (stretched(score.numpy(), cv2.INTER_CUBIC) * 255).astype(np.uint8)
        truth = [
            [int(x0 * SIZE / width), int(y0 * SIZE / height), int(x1 * SIZE / width), int(y1 * SIZE / height)]
            for x0, y0, x1, y1 in given.tolist()
        ]
        for step, threshold in enumerate(STEPS):
            mask = (levels > int(threshold * 255)).astype(np.uint8)
            contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
            best = []
            for contour in contours:
                x, y, wide, high = cv2.boundingRect(contour)
                box = [x, y, min(x + wide, SIZE - 1), min(y + high, SIZE - 1)]
                best.append(max(overlap(box, other) for other in truth))
            index = max(range(len(contours)), key=lambda i: cv2.contourArea(contours[i]))
            largest[step] += best[index] >= 0.5
            found[:, step] += [max(best) >= bound for bound in (0.3, 0.5, 0.7)]
    return SimpleNamespace(largest=100 * largest / len(maps), found=100 * found / len(maps))


@pytest.fixture(scope="module")
def scenes() -> tuple[list[Tensor], list[Tensor], list[tuple[int, int]]]:
    maps, boxes, sizes = zip(*(scene(seed, 90 + seed, 130 - seed) for seed in range(8)), strict=True)
    return list(maps), list(boxes), list(sizes)


def test_box_sweep_equals_a_loop_over_thresholds(scenes) -> None:
    maps, boxes, sizes = scenes
    metric, ranks = BoxSweep(), torch.tensor([0, 4, 5, 0, 1, 0, 9, 0])
    for rows in (slice(0, 3), slice(3, 8)):
        metric.update(torch.stack(maps[rows]), boxes[rows], ranks[rows], torch.tensor(sizes[rows]))
    result, naive = metric.compute(), naive_sweep(*scenes)
    assert result.thresholds == pytest.approx(STEPS, abs=1e-9)
    assert [entry.gt_known for entry in result.results] == pytest.approx(naive.largest, abs=1e-6)
    for shares, expected in zip(result.any_contour, naive.found, strict=True):
        assert shares == pytest.approx(expected, abs=1e-6)
    assert 0 < naive.largest.max() < 100
    assert result.max_box_acc == pytest.approx(naive.largest.max(), abs=1e-6)
    assert result.max_box_acc_v2 == pytest.approx(naive.found.max(1).mean(), abs=1e-6)
    assert result.oracle_threshold == pytest.approx(STEPS[naive.largest.argmax()])


@pytest.mark.slow
def test_top_1_and_top_5_count_where_the_class_is_right_as_well(scenes) -> None:
    maps, boxes, sizes = scenes
    ranks = torch.tensor([0, 4, 5, 0, 1, 0, 9, 0])
    alone = [naive_sweep([score], [box], [size]) for score, box, size in zip(*scenes, strict=True)]
    metric = BoxSweep()
    metric.update(torch.stack(maps), boxes, ranks, torch.tensor(sizes))
    result = metric.compute()
    step = result.thresholds.index(result.oracle_threshold)
    right = np.array([one.largest[step] for one in alone])
    assert result.oracle == pytest.approx(
        ((right).mean(), (right * (ranks.numpy() < 1)).mean(), (right * (ranks.numpy() < 5)).mean())
    )
    without = BoxSweep()
    without.update(torch.stack(maps), boxes, sizes=torch.tensor(sizes))
    assert without.compute().oracle.gt_known == result.oracle.gt_known
    assert math.isnan(without.compute().oracle.top1)
    assert math.isnan(without.compute().oracle.top5)


def flood(mask: NDArray, start: tuple[int, int]) -> set[tuple[int, int]]:
    """Pixels of a component, corners connected."""
    seen, queue = {start}, [start]
    while queue:
        row, column = queue.pop()
        for near in product((row - 1, row, row + 1), (column - 1, column, column + 1)):
            if min(near) >= 0 and max(near) < SIZE and near not in seen and mask[near]:
                seen.add(near)
                queue.append(near)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.1, 0.45])
def test_box_accuracy_takes_the_largest_component(scenes, threshold: float) -> None:
    maps, boxes, sizes = (part[:4] for part in scenes)
    metric, right = BoxAccuracy(threshold), []
    metric.update(torch.stack(maps), boxes, torch.zeros(4), torch.tensor(sizes))
    for score, given, (height, width) in zip(maps, boxes, sizes, strict=True):
        values = score.numpy()
        normal = (values - values.min()) / (values.max() - values.min())
        mask = cv2.resize(normal, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) > threshold
        left, largest = set(map(tuple, np.argwhere(mask).tolist())), set()
        while left:
            part = flood(mask, next(iter(left)))
            left -= part
            largest = max(largest, part, key=len)
        rows, columns = zip(*largest, strict=True)
        box = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
        truth = given.double() * SIZE / torch.tensor([width, height, width, height])
        best = max(overlap(box, other) for other in truth.tolist())
        right.append([best >= 0.5, np.mean([best >= bound for bound in (0.3, 0.5, 0.7)])])
    known, released = 100 * np.mean(right, 0)
    assert metric.compute() == pytest.approx((known, known, known, released))


def test_box_accuracy_at_the_bound() -> None:
    """A box of 99 pixels counts as 100 in BAS's code: exactly half of the true box."""
    score = torch.zeros(1, SIZE, SIZE)
    score[:, :99, :99] = 1
    metric = BoxAccuracy(0.5)
    metric.update(score, [torch.tensor([[0, 0, 99, 199]])], torch.tensor([0]))
    result = metric.compute()
    assert (result.gt_known, result.top1) == (100, 100)
    assert result.max_box_acc_v2_bas == pytest.approx(200 / 3)


def test_constant_map() -> None:
    """It has no contour: the sweep takes the first pixel, BAS the whole image."""
    maps, corner, whole = (
        torch.full((1, 9, 9), 3.0),
        torch.tensor([[0, 0, 0, 0]]),
        torch.tensor([[0, 0, 8, 8]]),
    )
    for box, at_any, fixed in ((corner, 100, 0), (whole, 0, 100)):
        sweep, accuracy = BoxSweep(), BoxAccuracy(0.1)
        sweep.update(maps, [box])
        accuracy.update(maps, [box])
        assert (sweep.compute().max_box_acc, sweep.compute().max_box_acc_v2) == (at_any, at_any)
        assert accuracy.compute().gt_known == fixed


def test_a_perfect_map_and_its_oracle() -> None:
    score = torch.zeros(1, SIZE, SIZE)
    score[:, 20:100, 30:90] = 1
    metric = BoxSweep()
    metric.update(score, [torch.tensor([[30, 20, 90, 100]])])
    result = metric.compute()
    assert (result.max_box_acc, result.max_box_acc_v2, result.oracle_threshold) == (100, 100, 0)


@pytest.mark.parametrize("metric", [BoxSweep(), BoxAccuracy(0.2)])
def test_boxes_beyond_the_image_are_cut_off_with_one_warning(metric: BoxSweep | BoxAccuracy) -> None:
    maps = torch.zeros(2, 40, 40)
    maps[:, :20, :20] = 1
    with pytest.warns(UserWarning, match=r"reach beyond their image of 40x40.*clipped") as record:
        metric.update(maps, [torch.tensor([[-50, -50, 20, 20]]), torch.tensor([[0, 0, 19, 400]])])
    assert len(record) == 1
    result = metric.compute()
    assert (result.gt_known if isinstance(metric, BoxAccuracy) else result.max_box_acc) == 100


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[5, 5, 4, 9]], r"the box \[5.0, 5.0, 4.0, 9.0\] has no pixel in its image of 30x20"),
        ([[30, 0, 35, 9]], r"the box .* has no pixel in its image of 30x20: .* whose size is given"),
        ([[-9, 0, -1, 9]], r"has no pixel in its image"),
    ],
)
def test_degenerate_boxes(boxes: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoxSweep().update(torch.rand(1, 20, 30), [torch.tensor(boxes)])
    with pytest.raises(ValueError, match=message):
        CentreBox().update([torch.tensor(boxes)], torch.tensor([[20, 30]]))


def test_a_box_of_one_pixel_counts() -> None:
    metric = BoxSweep()
    metric.update(torch.rand(1, 8, 8), [torch.tensor([[3, 3, 3, 3]])])
    assert metric.compute().oracle.gt_known == 0


def test_wrong_batches() -> None:
    maps, box = torch.rand(2, 8, 8), torch.tensor([[0, 0, 3, 3]])
    with pytest.raises(ValueError, match=r"needs one or more boxes \[n, 4\].*got \(0, 4\)"):
        BoxSweep().update(maps, [box, torch.zeros(0, 4)])
    with pytest.raises(ValueError, match=r"got \(2, 8, 8\) and 1 truths"):
        BoxSweep().update(maps, [box])
    with pytest.raises(ValueError, match=r"maps must be \[B, h, w\]"):
        BoxSweep().update(maps[:, None], [box, box])
    with pytest.raises(ValueError, match=r"ranks must be \[B\], one per image, got \(3,\)"):
        BoxSweep().update(maps, [box, box], torch.zeros(3))
    with pytest.raises(ValueError, match=r"sizes must be \[B, 2\], got \(2,\)"):
        BoxSweep().update(maps, [box, box], sizes=torch.tensor([8, 8]))
    with pytest.raises(ValueError, match="NaN"):
        BoxAccuracy(0.1).update(maps * math.nan, [box, box])
    with pytest.raises(ValueError, match=r"threshold must be 0 or more and below 1, got 1.5"):
        BoxAccuracy(1.5)
    with pytest.raises(ValueError, match=r"masks must be \[H, W\], one per map, got \(8,\)"):
        PixelSweep().update(maps, torch.zeros(2, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"sizes must be \[B, 2\] for 1 images; got \(2,\)"):
        CentreBox().update([box], torch.zeros(2))


def test_pixel_sweep_equals_a_loop_over_thresholds() -> None:
    rng, metric, scores, truths = np.random.default_rng(0), PixelSweep(), [], []
    for side in (14, 224, 100):
        score, mask = rng.random((side, side)), rng.choice([0, 1, 3, 255], (60, 90), p=[0.5, 0.2, 0.2, 0.1])
        metric.update(torch.from_numpy(score)[None], torch.from_numpy(mask)[None])
        truth = cv2.resize(mask.astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
        scores.append(stretched(score, cv2.INTER_CUBIC)[truth != 255])
        truths.append(truth[truth != 255] > 0)
    score, truth = np.concatenate(scores), np.concatenate(truths)
    area, recall_before, iou = 0.0, 0.0, {}
    for threshold in [1.0, *reversed(np.arange(0, 1, 0.001).tolist())]:
        predicted = score >= threshold
        hit = int((predicted & truth).sum())
        recall = hit / truth.sum()
        area += hit / max(predicted.sum(), 1) * (recall - recall_before)
        recall_before, iou[threshold] = recall, hit / (predicted | truth).sum()
    result = metric.compute()
    assert result.pxap == pytest.approx(100 * area, abs=1e-6)
    assert result.piou == pytest.approx(100 * max(iou.values()), abs=1e-6)
    assert iou[result.oracle_threshold] == max(iou.values())


def test_a_perfect_map_of_pixels() -> None:
    metric, mask = PixelSweep(), torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    mask[:, :50], mask[:, 50:60] = 1, 255
    metric.update((mask > 0).double(), mask)  # wrong on ignored pixels alone
    assert metric.compute()[:2] == (100, 100)


def test_states_of_two_ranks_add_up(scenes) -> None:
    maps, boxes, sizes = scenes
    whole, parts = BoxSweep(), [BoxSweep(), BoxSweep()]
    whole.update(torch.stack(maps), boxes, torch.arange(8), torch.tensor(sizes))
    for rank, part in enumerate(parts):
        own = slice(rank, None, 2)
        part.update(torch.stack(maps[own]), boxes[own], torch.arange(8)[own], torch.tensor(sizes[own]))
    for name in whole._defaults:
        values = [getattr(part, name) for part in parts]
        assert not values[0].is_floating_point()
        assert torch.equal(whole._reductions[name](torch.stack(values)), getattr(whole, name))


def test_centre_box() -> None:
    """Boxes that all are the middle half of their image, and one image where only a second box is."""
    sizes = torch.tensor([[100, 200], [64, 64], [300, 80]])
    middle = torch.stack([sizes[:, 1], sizes[:, 0], 3 * sizes[:, 1] - 4, 3 * sizes[:, 0] - 4], 1) // 4
    boxes = [box[None] for box in middle]
    boxes[2] = torch.cat([torch.tensor([[0, 0, 5, 5]]), boxes[2]])
    result = centre_box(boxes, sizes)
    assert (result.gt_known, result.max_box_acc_v2) == (100, 100)
    aside = centre_box([torch.tensor([[0, 0, 9, 9]]), boxes[0]], sizes[[1, 0]])
    assert aside.gt_known == 50
    assert aside.max_box_acc_v2 == pytest.approx(50)


def test_centre_box_equals_a_loop_over_sizes() -> None:
    boxes, sizes = zip(*(scene(seed, SIZE, SIZE)[1:] for seed in range(4)), strict=True)
    sides, best = range(4, SIZE + 1, 4), {bound: 0.0 for bound in (0.3, 0.5, 0.7)}
    for wide, high in product(sides, sides):
        box = [(SIZE - wide) // 2, (SIZE - high) // 2, (SIZE + wide) // 2 - 1, (SIZE + high) // 2 - 1]
        overlaps = [max(overlap(box, other) for other in given.tolist()) for given in boxes]
        best = {b: max(best[b], 100 * np.mean([value >= b for value in overlaps])) for b in best}
    result = centre_box(boxes, torch.tensor(sizes))
    assert result.gt_known == pytest.approx(best[0.5])
    assert result.max_box_acc_v2 == pytest.approx(np.mean(list(best.values())))


def test_ranks() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [math.nan, 0.0, 0.0]])
    assert true_class_ranks(scores, torch.eye(3)[[0, 1, 0]]).tolist() == [0, 2, 3]
    ties = torch.zeros(1, 200)  # as of a collapsed classifier
    assert true_class_ranks(ties, torch.eye(200)[:1]).tolist() == [199]
    assert true_class_ranks(torch.zeros(1, 1), torch.ones(1, 1)).tolist() == [0]
    assert true_class_ranks(torch.full((1, 1), math.nan), torch.ones(1, 1)).tolist() == [1]
    with pytest.raises(ValueError, match=r"one class per image, got \[2.0\] classes"):
        true_class_ranks(scores[:1], torch.tensor([[1.0, 1.0, 0.0]]))
