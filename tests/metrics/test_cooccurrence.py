import numpy as np
import pytest
import torch

from fbr_plugin.metrics import CooccurrenceSweep, false_positives
from fbr_plugin.stuff import StuffTable

BACKGROUND_THRESHOLDS = (0.0, 0.3, 0.6)
COOCCURRING = torch.tensor([[True, False, False, True], [False, True, False, True], [False] * 4])
STUFF = StuffTable(("grass", "water", "road", "sky"), COOCCURRING)


@pytest.fixture
def batch(generator: torch.Generator) -> list[torch.Tensor]:
    """Seeds, true classes, stuff and image labels of four images."""
    seed = torch.rand(4, 3, 6, 5, generator=generator)
    target = torch.randint(0, 4, (4, 6, 5), generator=generator)
    stuff = torch.randint(0, 5, (4, 6, 5), generator=generator)
    return [seed, target, stuff, torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]])]


def shares(batch: list[torch.Tensor], threshold: float, chosen: list[tuple[int, int]]) -> float:
    """The percentage of the background on pairs of a class and stuff that is predicted as the class."""
    seed, target, stuff, label = batch
    score, best = seed.max(1)
    prediction = torch.where(score > threshold, best + 1, 0)
    hits = total = 0
    for image in range(len(seed)):
        for c, s in chosen:
            if label[image, c]:
                region = (target[image] == 0) & (stuff[image] == s)
                hits += int((prediction[image][region] == c + 1).sum())
                total += int(region.sum())
    return 100 * hits / total


def test_equals_the_definition(batch: list[torch.Tensor]) -> None:
    metric = CooccurrenceSweep(STUFF, BACKGROUND_THRESHOLDS)
    metric.update(*(value[:1] for value in batch))
    metric.update(*(value[1:] for value in batch))
    result = metric.compute()
    pairs = {(c, s) for c in range(3) for s in range(5)}  # 0 is no stuff
    own = {(0, 1), (0, 4), (1, 2), (1, 4)}
    for step, threshold in enumerate(BACKGROUND_THRESHOLDS):
        expected = shares(batch, threshold, sorted(own)), shares(batch, threshold, sorted(pairs - own))
        assert (result.cooccurring[step], result.other[step]) == pytest.approx(expected, rel=1e-5)
        for c in range(3):
            other = sorted(pair for pair in pairs - own if pair[0] == c)
            assert result.other_by_class[c, step] == pytest.approx(shares(batch, threshold, other), rel=1e-5)
            for s in range(4):
                alone = shares(batch, threshold, [(c, s + 1)])
                assert result.by_stuff[c, s, step] == pytest.approx(alone, rel=1e-5)


def test_the_table_names_the_stuff_of_each_class(batch: list[torch.Tensor]) -> None:
    metric = CooccurrenceSweep(STUFF, BACKGROUND_THRESHOLDS)
    metric.update(*batch)
    result = metric.compute()
    title, *rows = false_positives(result, STUFF, 1, ("cow", "boat", "cat"))
    assert title == "False positives in percent, threshold 0.3"
    cow = f"cow   grass {result.by_stuff[0, 0, 1]:.1f}, sky {result.by_stuff[0, 3, 1]:.1f}, elsewhere "
    assert rows[0].startswith(cow)
    assert rows[1].startswith(f"boat  water {result.by_stuff[1, 1, 1]:.1f}, sky ")
    assert rows[2] == f"cat   elsewhere {result.other_by_class[2, 1]:.1f}"


def test_stuff_that_no_image_has_is_unknown() -> None:
    metric, plane = CooccurrenceSweep(STUFF, BACKGROUND_THRESHOLDS), torch.ones(1, 2, 2, dtype=torch.long)
    metric.update(torch.rand(1, 3, 2, 2), 0 * plane, plane, torch.tensor([[1.0, 0, 0]]))
    result = metric.compute()
    assert np.isfinite(result.by_stuff[0, 0]).all()
    assert np.isnan(result.by_stuff[0, 1:]).all()
    assert np.isnan(result.other).all()


def test_rejects_wrong_shapes_and_numbers() -> None:
    metric, seed, plane = CooccurrenceSweep(STUFF), torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4).long()
    with pytest.raises(ValueError, match=r"label \[B, C\]: .* a label of \(2, 4\)"):
        metric.update(seed, plane, plane, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"a stuff of \(1, 4, 4\)"):
        metric.update(seed, plane, plane[:1], torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"a seed of \(3, 4, 4\)"):
        metric.update(seed[0], plane[0], plane[0], torch.ones(3))
    with pytest.raises(ValueError, match=r"stuff holds the value 5: it is 0 \(none\) to 4, as 4 kinds"):
        metric.update(seed, plane, plane + 5, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"\[C, S\] for the 4 names of stuff, got \(4, 3\)"):
        CooccurrenceSweep(StuffTable(STUFF.names, COOCCURRING.T))
