"""The limit of IRN's separation: true relations of known instances, and which instances they recover."""

import pytest
import torch

from benchmarks.separation import recovered, separate_truth, touching, true_relations, truth_of
from fbr_plugin.data.scenes.source import SyntheticScenes


def test_true_relations_of_two_instances() -> None:
    instances = torch.zeros(8, 10, dtype=torch.uint8)
    instances[1:6, 1:8], instances[2:5, 3:6] = 1, 2
    boundary, displacement = true_relations(instances)
    assert boundary[instances == 2].eq(0).all()
    assert boundary[1:6, 1:8].sum() == 12  # around the one in front
    assert boundary[0].tolist() == [0.0, *[1.0] * 7, 0.0, 0.0]
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(10), indexing="ij")
    reached = displacement + torch.stack([rows, columns])
    assert reached[:, instances == 2].unique(dim=1).tolist() == [[3.0], [4.0]]
    (place,) = reached[:, instances == 1].unique(dim=1).T.long().tolist()
    assert instances[tuple(place)] == 1  # its mean position lies in the other
    assert displacement[:, instances == 0].eq(0).all()
    finer = true_relations(instances, 2)
    assert finer.boundary.shape == (16, 20)
    front = (instances == 2).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert finer.displacement[:, front].abs().amax(1).tolist() == [3.0, 3.0]
    assert true_relations(torch.zeros(3, 4)).displacement.eq(0).all()


@pytest.mark.slow
def test_true_relations_recover_the_instances_of_scenes() -> None:
    """Those in several pieces too, if pieces with one centroid are joined."""
    found = []
    for scene in SyntheticScenes(num_images=16, seed=11).scenes:
        truth, numbers, mask = truth_of(scene)
        if len(truth["labels"]):
            steps = separate_truth(numbers, mask, walk_steps=32, join=True).steps
            found += recovered(truth, steps.instances)
    assert len(found) > 20
    assert sum(found) >= 0.98 * len(found)


def test_touching_instances_of_one_class() -> None:
    numbers = torch.zeros(6, 8, dtype=torch.int64)
    numbers[1:3, 1:4], numbers[3:5, 1:4] = 1, 2
    assert touching(numbers, (numbers > 0).long())
    assert touching(numbers.T, (numbers > 0).long().T)
    assert not touching(numbers, numbers)
    numbers[3] = 0
    assert not touching(numbers, (numbers > 0).long())
