"""Scores of instances against plain loops over sets of pixels, and against COCO's evaluator."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.naive_instances import Pair, naive, random_pair
from helpers.processes import launch
from torchmetrics.detection import MeanAveragePrecision

from fbr_plugin.instances import Instances
from fbr_plugin.metrics import COCOInstanceAP, InstanceAP, InstanceResult, without_ignored
from fbr_plugin.metrics import instances as code
from fbr_plugin.metrics.instances import average_precision, shared_pixels

NAMES = ["ap_25", "ap_50", "ap_70", "ap_75", "ap_mean", "ap_volume", "abo"]


def score(pairs: list[Pair], num_classes: int) -> InstanceResult:
    metric = InstanceAP(num_classes)
    metric.update([pred for pred, _ in pairs[:1]], [truth for _, truth in pairs[:1]])
    if pairs[1:]:
        metric.update([pred for pred, _ in pairs[1:]], [truth for _, truth in pairs[1:]])
    return metric.compute()


def bars(*spans: tuple[int, int], length: int = 12) -> torch.Tensor:
    """Masks [N, 1, length] of the pixels from a start up to and without an end."""
    where = torch.arange(length)
    return torch.stack([(where >= a) & (where < b) for a, b in spans])[:, None] if spans else NONE


NONE = torch.zeros(0, 1, 12, dtype=torch.bool)


def found(
    *spans: tuple[int, int], labels: list[int] | None = None, scores: list[float] | None = None
) -> Instances:
    """Predictions, of class 1 and of falling scores unless given."""
    number = len(spans)
    labels = [1] * number if labels is None else labels
    scores = [1 - 0.1 * k for k in range(number)] if scores is None else scores
    return Instances(masks=bars(*spans), labels=torch.tensor(labels).long(), scores=torch.tensor(scores))


def true(*spans: tuple[int, int], labels: list[int] | None = None, **more: Any) -> Instances:
    """True instances, of class 1 unless given."""
    numbers = torch.tensor([1] * len(spans) if labels is None else labels).long()
    extra: Any = {key: torch.tensor(value) for key, value in more.items()}
    return Instances(masks=bars(*spans), labels=numbers, **extra)


def ap(pairs: list[Pair], num_classes: int = 1) -> list[float]:
    """AP at .25, .5, .7 and .75, and ABO, rounded."""
    result = score(pairs, num_classes)
    return [round(value, 3) for value in (*result.ap, result.abo)]


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_sets_equal_plain_loops(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(count):
        pairs = [random_pair(rng, 3) for _ in range(3)]
        result, expected = score(pairs, 3).scores(), naive(pairs, 3)
        assert [*result] == NAMES == [*expected]
        shares = [value / 100 for value in result.values()]
        assert shares == pytest.approx([*expected.values()], abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_cocos_evaluator_agrees_where_definitions_meet(count: int) -> None:
    """At the recall levels 1/n .. n/n its AP is the area under the envelope. Its matching is ours for IoUs
    above .5, where true masks are disjoint: a prediction reaches one of them at most.
    """
    rng = np.random.default_rng(count)
    compared = 0
    for _ in range(count):
        pairs = [random_pair(rng, 1, distinct=True) for _ in range(3)]
        result = score(pairs, 1)
        objects = result.counts[0]
        if not objects or not any(len(pred["scores"]) for pred, _ in pairs):
            continue  # torchmetrics has no curve then
        levels = [k / objects for k in range(1, objects + 1)]
        coco = MeanAveragePrecision(
            iou_type="segm", iou_thresholds=[0.7, 0.75], rec_thresholds=levels, extended_summary=True
        )
        coco.update(*map(list, zip(*pairs, strict=True)))
        precision = coco.compute()["precision"][:, :, 0, 0, -1]
        assert [value / 100 for value in result.ap[2:]] == pytest.approx(precision.mean(1).tolist(), abs=1e-6)
        compared += 1
    assert compared > count / 2


def test_cocos_evaluator_takes_the_instances_without_ignored_pixels() -> None:
    ignore = [[False] * 6 + [True] * 6]
    pairs = [without_ignored(found((0, 9), (8, 12)), true((0, 6), ignore=ignore))]
    coco = MeanAveragePrecision(iou_type="segm")
    coco.update(*map(list, zip(*pairs, strict=True)))
    assert coco.compute()["map"] == pytest.approx(1)


def test_a_hand_made_set() -> None:
    """Right, wrong, right among 2 true instances: precision 1 at recall 1/2, 2/3 at recall 1."""
    pairs = [(found((0, 4), (9, 12), (4, 8)), true((0, 4), (4, 8)))]
    assert ap(pairs) == pytest.approx([100 * (1 + 2 / 3) / 2] * 4 + [100], abs=1e-3)


def test_a_second_match_is_wrong_though_another_mask_is_free() -> None:
    """Both predictions overlap the first mask most; COCO would give the second one to the other mask."""
    pairs = [(found((0, 6), (0, 6)), true((0, 6), (2, 6)))]
    assert ap(pairs) == [50, 50, 50, 50, pytest.approx(100 * (1 + 4 / 6) / 2, abs=1e-3)]


def test_scores_decide_who_is_first_over_the_whole_set() -> None:
    good, bad = (found((0, 4), scores=[0.4]), true((0, 4))), (found((0, 4), scores=[0.9]), true((6, 9)))
    assert ap([good, bad]) == ap([bad, good]) == [25, 25, 25, 25, 50]


def test_equal_scores_depend_on_no_order() -> None:
    right, wrong = (found((0, 4)), true((0, 4))), (found((8, 12)), true((0, 4)))
    assert ap([right, wrong]) == ap([wrong, right]) == [25, 25, 25, 25, 50]
    pairs = [(found((0, 4), (0, 4), scores=[0.5, 0.5]), true((0, 4)))]
    assert ap(pairs)[:4] == [50] * 4
    # The first is right, then 2 of 4: one among the first 2 of these, precision 2/3, and one among all, 3/5.
    spans = [(0, 2), (8, 9), (2, 4), (9, 10), (4, 6)]
    tied = found(*spans, scores=[0.9, 0.5, 0.5, 0.5, 0.5]), true((0, 2), (2, 4), (4, 6))
    assert ap([tied])[:4] == pytest.approx([100 * (1 + 2 / 3 + 3 / 5) / 3] * 4, abs=1e-3)


@pytest.mark.parametrize(("iou", "span"), [(0.25, (0, 1)), (0.5, (0, 2)), (0.75, (0, 3))])
def test_an_overlap_on_the_threshold_is_right(iou: float, span: tuple[int, int]) -> None:
    reached = [100 * (iou >= threshold) for threshold in (0.25, 0.5, 0.7, 0.75)]
    assert ap([(found(span), true((0, 4)))]) == [*reached, 100 * iou]


def test_no_prediction_and_no_truth() -> None:
    assert ap([(found(), true((0, 4)))]) == [0, 0, 0, 0, 0]
    result = score([(found((0, 4)), true()), (found(), true())], 1)
    assert all(math.isnan(value) for value in result.scores().values())
    assert (result.absent, result.counts) == ((1,), (0,))


def test_classes_without_truth_are_left_out_and_named() -> None:
    result = score([(found((0, 4), (0, 4), labels=[2, 3]), true((0, 4), labels=[2]))], 3)
    assert (result.absent, result.counts) == ((1, 3), (0, 1, 0))
    assert (result.ap, result.mean_ap, result.abo, result.ap_volume) == ((100,) * 4, 100, 100, 100)
    assert [math.isnan(value) for value in result.class_abo] == [True, False, True]
    assert [math.isnan(values[0]) for values in result.class_ap] == [True, False, True]


def test_another_class_is_no_match() -> None:
    assert ap([(found((0, 4), labels=[2]), true((0, 4), (6, 9), labels=[1, 2]))], 2) == [0] * 5


def test_predictions_in_a_crowd_are_neither_right_nor_wrong() -> None:
    truth = true((0, 4), (5, 12), iscrowd=[False, True])
    inside = [(found((5, 8), (8, 11), (0, 4)), truth)]
    assert ap(inside) == [100] * 5
    assert score(inside, 1).counts == (1,)
    # 2 of 4 pixels in the crowd: dropped at IoU .5 and below, wrong above.
    assert ap([(found((3, 7), (0, 4)), true((0, 3), (5, 12), iscrowd=[0, 1]))])[:4] == [100, 100, 50, 50]
    assert ap([(found((5, 8), (0, 4), labels=[2, 1]), truth)], 2)[:4] == [100] * 4  # of an absent class
    # The crowd of another class does not excuse.
    two = true((0, 4), (5, 12), (4, 5), labels=[1, 2, 1], iscrowd=[False, True, False])
    assert ap([(found((5, 8), (0, 4)), two)], 2)[0] == 25
    assert ap([(found((0, 4), (0, 4)), true((0, 4), (0, 6), iscrowd=[0, 1]))])[:4] == [100] * 4


def test_ignored_pixels_count_for_nothing() -> None:
    ignore = [[False] * 6 + [True] * 6]
    assert ap([(found((0, 9)), true((0, 8), ignore=ignore))]) == [100] * 5
    assert ap([(found((7, 9), (0, 6)), true((0, 6), ignore=ignore))]) == [100] * 5  # dropped, right
    assert ap([(found((5, 9), (0, 6)), true((0, 6), ignore=ignore))])[1] == 50  # seen by one pixel: wrong
    assert ap([(found((0, 0), (0, 6)), true((0, 6), ignore=ignore))])[1] == 50  # empty before: wrong
    assert score([(found(), true((7, 9), (0, 3), ignore=ignore))], 1).counts == (1,)  # not to be found
    assert score([(found(), true((4, 4), (0, 3)))], 1).counts == (1,)


def test_many_instances() -> None:
    spans = [(3 * k, 3 * k + 3) for k in range(200)]
    masks = bars(*spans, length=600).view(200, 20, 30)
    labels = torch.arange(200) % 20 + 1
    pred = Instances(masks=masks.flip(0), labels=labels.flip(0), scores=torch.rand(200))
    result = score([(pred, Instances(masks=masks, labels=labels))], 20)
    assert result.ap == (100,) * 4
    assert result.counts == (10,) * 20


def test_shared_pixels_are_exact_in_pieces_and_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(n, 30, 40, generator=generator) < 0.5 for n in (5, 7))
    expected = (one[:, None] & other).sum((2, 3))
    assert torch.equal(shared_pixels(one, other), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(shared_pixels(one, other), expected)
    monkeypatch.setattr(code, "_AT_ONCE", 12 * 7)
    assert torch.equal(shared_pixels(one, other), expected)
    assert shared_pixels(one[:0], other).shape == (0, 7)


def test_average_precision_without_predictions_is_0() -> None:
    assert average_precision(np.zeros(0), np.zeros((0, 2)), 3).tolist() == [0, 0]


def test_reset_and_per_batch_results() -> None:
    metric, pair = InstanceAP(1), (found((0, 4)), true((0, 4)))
    assert metric([pair[0]], [pair[1]]).abo == 100
    assert metric([found()], [pair[1]]).abo == 0
    assert metric.compute().abo == 50
    metric.reset()
    metric.update([pair[0]], [pair[1]])
    assert metric.compute().abo == 100


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (found((0, 4), scores=[math.nan]), true(), "predictions of image 0: scores hold NaN or infinite"),
        (found((0, 4), labels=[2]), true(), r"predictions of image 0: labels .* from 1 to 1, got \[2\]"),
        (found(), true((0, 4), labels=[0]), r"true instances of image 0: labels .* from 1 to 1, got \[0\]"),
        (
            found(),
            true(labels=[]) | {"masks": NONE[..., :9]},
            "predicted masks are 12x1 pixels, true ones 9x1",
        ),
        (true((0, 4)), true(), "predictions of image 0: the predictions have no scores: give a confidence"),
        (
            found((0, 4), scores=[1.0, 0.5]),
            true(),
            r"scores must be \[1\] for masks of \[1, 1, 12\], got \[2\]",
        ),
        (found(), true((0, 4), iscrowd=[True, True]), r"iscrowd must be \[1\] for masks"),
        (found(), true((0, 4), ignore=[True]), r"ignore must be \[1, 12\] for masks"),
        (
            found() | {"masks": NONE[:, 0]},
            true(),
            r"masks must be \[N, H, W\] bool, got \(0, 12\) torch.bool",
        ),
        (found() | {"masks": NONE.float()}, true(), r"bool, got \(0, 1, 12\) torch.float32"),
        (found((0, 4)) | {"labels": torch.ones(1)}, true(), "labels must be integers"),
    ],
)
def test_wrong_input(pred: Instances, truth: Instances, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceAP(1).update([pred], [truth])


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="1 images have predictions, but 0 have true instances"):
        InstanceAP(1).update([found()], [])
    with pytest.raises(ValueError, match="num_classes must be 1 or more, got 0"):
        InstanceAP(0)


def images(count: int) -> list[Pair]:
    rng = np.random.default_rng(5)
    return [random_pair(rng, 3) for _ in range(count)]


def parts(number: int) -> list[list[float]]:
    """The results of a process that has 2 of 7 images or the other 5, and all of them or none."""
    results = []
    for own in (images(7)[:2] if number else images(7)[2:], images(7) if number else []):
        metric = InstanceAP(3)
        for pred, truth in own:
            metric.update([pred], [truth])
        results.append([*metric.compute().scores().values()])
    return results


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    single = [*score(images(7), 3).scores().values()]
    assert not any(map(math.isnan, single))
    assert launch(parts, tmp_path) == [[single, single], [single, single]]


def halves(number: int) -> list[float]:
    """COCO's results of a process that has half of 6 images."""
    metric = COCOInstanceAP()
    for pred, truth in images(6)[number::2]:
        metric.update([pred], [truth])
    return [*metric.compute().values()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_two_processes_find_the_ap_of_coco_of_one(tmp_path: Path) -> None:
    metric = COCOInstanceAP()
    for pred, truth in images(6):
        metric.update([pred], [truth])
    single = pytest.approx([*metric.compute().values()], abs=1e-9, nan_ok=True)
    assert metric.compute()["coco_ap_50"] > 0
    assert launch(halves, tmp_path) == [single, single]
