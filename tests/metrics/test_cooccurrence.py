import pytest
import torch

from fbr_plugin.metrics import CooccurrenceSweep

BACKGROUND_THRESHOLDS = (0.0, 0.3, 0.6)


def test_equals_the_definition(generator: torch.Generator) -> None:
    seed = torch.rand(4, 3, 6, 5, generator=generator)
    target = torch.randint(0, 4, (4, 6, 5), generator=generator)
    texture = torch.randint(0, 6, (4, 6, 5), generator=generator)
    label = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]])
    metric = CooccurrenceSweep(3, BACKGROUND_THRESHOLDS)
    metric.update(seed[:1], target[:1], texture[:1], label[:1])
    metric.update(seed[1:], target[1:], texture[1:], label[1:])
    result = metric.compute()
    score, best = seed.max(1)
    for step, threshold in enumerate(BACKGROUND_THRESHOLDS):
        prediction = torch.where(score > threshold, best + 1, 0)
        hits, totals = [0, 0], [0, 0]
        for image in range(4):
            for c in range(1, 4):
                if label[image, c - 1]:
                    for own in (0, 1):
                        region = (target[image] == 0) & ((texture[image] == c - 1) == bool(own))
                        hits[own] += int((prediction[image][region] == c).sum())
                        totals[own] += int(region.sum())
        assert result.other[step] == pytest.approx(100 * hits[0] / totals[0], rel=1e-5)
        assert result.own[step] == pytest.approx(100 * hits[1] / totals[1], rel=1e-5)


def test_rejects_wrong_shapes() -> None:
    metric, seed, plane = CooccurrenceSweep(3), torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"label \[B, C\]: .* a label of \(2, 4\)"):
        metric.update(seed, plane, plane, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"a texture of \(1, 4, 4\)"):
        metric.update(seed, plane, plane[:1], torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"a seed of \(3, 4, 4\)"):
        metric.update(seed[0], plane[0], plane[0], torch.ones(3))
