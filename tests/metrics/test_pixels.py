"""PxAP and PIoU against figures of the released evaluators, a loop, and in the cases that have no figure."""

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fbr_plugin.metrics import PixelSweep

# Of the four scenes below. PxAP: wsolevaluation at 96f4b88, inference.normalize_scoremap and
# evaluation.MaskEvaluator, with the objects and the ignored region as files. PIoU: BAS-Extension at bd1bfa8,
# count_pxap.val_pxap_one_epoch on the same maps; its PxAP is BAS_PXAP, as it normalises once more by the
# range + 1e-5.
PXAP = 67.64960769316265
PIOU = 48.17919577381573
BAS_PXAP = 67.64964888282788


def scene(seed: int) -> tuple[Tensor, Tensor]:
    """Scores [14, 14] that are somewhat higher on the object, and a mask [h, w] with an ignored region."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 255], (7, 9), p=[0.5, 0.35, 0.15])
    mask = np.kron(coarse, np.ones((11 + seed, 13), np.int64))
    near = cv2.resize((mask == 1).astype(np.float64), (14, 14), interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(rng.random((14, 14)) + 0.4 * near), torch.from_numpy(mask)


def filled(*scenes: tuple[Tensor, Tensor]) -> PixelSweep:
    """The metric of scenes, in batches of two."""
    metric = PixelSweep()
    for start in range(0, len(scenes), 2):
        maps, masks = zip(*scenes[start : start + 2], strict=True)
        metric.update(torch.stack(maps), masks)
    return metric


def pixels(score: Tensor, mask: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The normalised scores and the truth of the pixels that are not ignored, at 224 x 224."""
    grown = cv2.resize(score.numpy(), (224, 224), interpolation=cv2.INTER_CUBIC)
    truth = cv2.resize(mask.numpy().astype(np.uint8), (224, 224), interpolation=cv2.INTER_NEAREST)
    normal = (grown - grown.min()) / (grown - grown.min()).max()
    return normal[truth != 255], truth[truth != 255] == 1


def test_the_figures_of_the_released_evaluators() -> None:
    result = filled(*map(scene, range(4))).compute()
    assert result.pxap == pytest.approx(PXAP, abs=1e-9)
    assert result.piou == pytest.approx(PIOU, abs=1e-9)
    assert result.pxap == pytest.approx(BAS_PXAP, abs=1e-4)


def test_precision_and_recall_are_those_of_a_count_at_each_threshold() -> None:
    scenes = [scene(seed) for seed in range(4)]
    result = filled(*scenes).compute()
    scores, truths = (np.concatenate(part) for part in zip(*(pixels(*own) for own in scenes), strict=True))
    assert (len(result.thresholds), result.thresholds[0], result.thresholds[-1]) == (1001, 0, 1)
    for index in (0, 1, 300, 500, 731, 999, 1000):
        above = scores >= result.thresholds[index]
        assert result.precision[index] == pytest.approx(100 * truths[above].mean())
        assert result.recall[index] == pytest.approx(100 * above[truths].mean())
    assert result.recall[0] == 100
    steps = -np.diff(result.recall, append=0)
    assert result.pxap == pytest.approx((steps * np.nan_to_num(result.precision)).sum() / 100)


def test_an_image_without_object_counts_and_an_ignored_one_does_not() -> None:
    known = scene(0)
    alone = filled(known).compute()
    nothing = torch.zeros_like(known[1])
    assert filled(known, (known[0], nothing + 255)).compute()[:3] == alone[:3]
    assert filled(known, (known[0], nothing)).compute().pxap < alone.pxap


@pytest.mark.parametrize("value", [0, 255])
def test_without_a_pixel_of_an_object_there_is_no_figure(value: int) -> None:
    score, mask = scene(0)
    result = filled((score, torch.full_like(mask, value))).compute()
    assert all(math.isnan(figure) for figure in result[:3])
    assert all(math.isnan(share) for share in result.recall)


def test_a_constant_map_is_all_object_at_threshold_0() -> None:
    mask = torch.zeros(4, 4, dtype=torch.long)
    mask[0] = 1
    result = filled((torch.full((7, 7), 3.0), mask)).compute()
    assert result[:3] == (25, 25, 0)
    assert math.isnan(result.precision[1])


def test_wrong_maps_and_masks() -> None:
    score, mask = scene(0)
    with pytest.raises(ValueError, match="maps hold NaN or infinite scores"):
        PixelSweep().update(score[None] * math.nan, [mask])
    with pytest.raises(ValueError, match=r"got \(1, 14, 14\) and 2 truths"):
        PixelSweep().update(score[None], [mask, mask])
    with pytest.raises(TypeError, match=r"masks must hold integer class numbers, got torch.float32"):
        PixelSweep().update(score[None], [mask.float()])
    with pytest.raises(ValueError, match=r"masks holds the value 256"):
        PixelSweep().update(score[None], [mask + 1])


def test_states_of_two_ranks_add_up() -> None:
    whole, parts = filled(*map(scene, range(4))), [filled(scene(0), scene(2)), filled(scene(1), scene(3))]
    assert not whole.counts.is_floating_point()
    assert torch.equal(
        whole._reductions["counts"](torch.stack([part.counts for part in parts])), whole.counts
    )
