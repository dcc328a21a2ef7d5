"""Instances from IRN's displacement field: against the released code, with true relations, and bad input."""

import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.released import reference
from torch import Tensor

from fbr_plugin.baselines.irn.instances import Relations, find_instances
from fbr_plugin.baselines.irn.module import IRN
from fbr_plugin.baselines.irn.network import Grid
from fbr_plugin.functional import propagate
from fbr_plugin.instances import Instances


def build(**options: Any) -> IRN:
    """A small network of a known initialisation, in evaluation."""
    pl.seed_everything(0, verbose=False)
    return IRN(12, **{"encoder": "small", "radius": 3, "walk_steps": 16, **options}).eval()


def numbered(instances: Instances) -> Tensor:
    """The masks as numbers [H, W] from 1; they must not overlap."""
    masks = instances["masks"]
    assert masks.sum(0).max() <= 1
    return (masks * torch.arange(1, len(masks) + 1)[:, None, None]).sum(0)


def stand_still(maps: Tensor) -> Tensor:
    """A walk without steps on a grid of the image's size."""
    return maps


@pytest.mark.parametrize("name", ["smooth", "whirls", "strong"])
def test_instances_are_the_released_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Centroids, clusters and instances of make_ins_seg_labels.py (jiwoon-ahn/irn, a2ece00), in its order."""
    released = reference("irn_instances", f"{name}.")
    size = released["instances"].shape

    def walk(maps: Tensor) -> Tensor:
        return Grid(1, *size).fit(propagate(maps, released["boundary"])[None], 4)[0]

    inputs = released["displacement"], released["scores"], released["classes"]
    found = find_instances(*inputs, walk, size)
    assert torch.equal(found.centroids.round().byte(), released["centroids"])
    assert torch.equal(found.clusters.byte(), released["clusters"])
    assert torch.equal(numbered(found.instances).byte(), released["instances"])
    assert torch.equal(found.instances["labels"], released["labels"])
    torch.testing.assert_close(found.instances["scores"], released["confidences"], rtol=0, atol=1e-4)

    model = build(released=True, finest_stride=4, walk_steps=256)
    relations = Relations(released["boundary"][None], released["displacement"][None])
    monkeypatch.setattr(model, "relations", lambda image: relations)
    monkeypatch.setattr(model, "_coarse", lambda image, scores: released["scores"])
    ours = model.instances(torch.zeros(1, 3, *size), torch.zeros(2, *size), released["classes"])
    assert all(torch.equal(ours[key], value) for key, value in found.instances.items())  # type: ignore[literal-required]


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"released": True, "walk_canvas": 64}], ids=["default", "released"])
def test_relations_are_the_boundary_and_the_displacement_of_the_image(options: dict[str, Any]) -> None:
    model, image = build(**options), torch.randn(2, 3, 30, 41)
    encoded, encoder = [], model.encoder.forward
    model.encoder.forward = lambda view: encoded.append(view) or encoder(view)  # type: ignore[func-returns-value]
    found = model.relations(image)
    assert len(encoded) == 2
    assert torch.equal(found.boundary, model.boundary(image))
    torch.testing.assert_close(found.displacement, model(encoded[0])[1][..., :8, :11])
    assert found.displacement.shape == (2, 2, 8, 11)


@pytest.mark.parametrize("options", [{}, {"released": True, "walk_canvas": 64}], ids=["default", "released"])
def test_instances_of_a_network(options: dict[str, Any]) -> None:
    model, image, scores = build(**options), torch.randn(1, 3, 48, 60), torch.rand(2, 48, 60)
    found = model.instances(image, scores, torch.tensor([3, 7]), background=0.4)
    assert {key: value.dtype for key, value in found.items()} == {
        "masks": torch.bool,
        "labels": torch.int64,
        "scores": torch.float32,
    }
    assert 0 < len(found["masks"]) == len(found["labels"]) == len(found["scores"])
    assert found["masks"].shape[1:] == (48, 60)
    numbered(found)
    assert {3, 7} >= set(found["labels"].tolist())
    assert found["scores"].max() == 1
    large = found["masks"].sum((1, 2)) >= 0.01 * 48 * 60
    assert (found["scores"][large] > 0.4).all()
    assert (found["scores"][~large] == 0).all()
    assert model.instances(image, torch.rand(1, 96, 120), torch.tensor([1]))["masks"].shape[1:] == (96, 120)


def fields(cells: int, side: int) -> Tensor:
    """Displacements [2, cells * side, cells * side] towards the centres of the cells of a board."""
    offset = (side - 1) / 2 - torch.arange(cells * side) % side
    return torch.stack(torch.meshgrid(offset, offset, indexing="ij"))


def test_maps_of_zeros_are_left_out_and_others_are_propagated_in_parts() -> None:
    walked, size = [], (135, 135)
    scores = torch.ones(2, *size)
    scores[1] = 1.2
    scores[1, :, 9:] = 0

    def walk(maps: Tensor) -> Tensor:
        walked.append(len(maps))
        return maps

    inputs = fields(15, 9), scores, torch.tensor([5, 2]), walk, size
    together = find_instances(*inputs, centroid_steps=20, min_share=0)
    assert together.clusters.max() == 224
    assert walked == [225 + 15]
    assert together.instances["labels"].tolist() == 210 * [5] + 15 * [2]
    assert together.instances["masks"].sum((1, 2)).eq(81).all()
    walked.clear()
    apart = find_instances(*inputs, centroid_steps=20, min_share=0, max_memory=300 * math.prod(size))
    assert walked == [*13 * [18], 6]
    for key, value in together.instances.items():
        assert torch.equal(apart.instances[key], value)  # type: ignore[literal-required, arg-type]


def test_the_smallest_masks_are_left_out_where_memory_ends() -> None:
    scores = torch.zeros(1, 20, 30)
    for count in range(5):
        scores[0, 4 * count, : count + 1] = 1.0
    inputs = torch.zeros(2, 20, 30), scores, torch.tensor([1]), stand_still, (20, 30)
    found = find_instances(*inputs, max_memory=3 * 600).instances
    assert found["masks"].sum((1, 2)).tolist() == [3, 4, 5]
    assert len(find_instances(*inputs).instances["masks"]) == 5


def test_fragments_are_instances_and_small_ones_score_nothing() -> None:
    scores = torch.zeros(1, 20, 30)
    scores[0, 2:8, 2:8], scores[0, 2:8, 20:26], scores[0, 15, 15] = 1.0, 0.5, 0.8
    scores[0, 15, 25] = 0.25
    inputs = torch.zeros(2, 20, 30), scores, torch.tensor([4]), stand_still, (20, 30)
    found = find_instances(*inputs).instances
    assert found["masks"].flatten(1).sum(1).tolist() == [36, 36, 1]
    assert found["labels"].tolist() == [4, 4, 4]
    assert found["scores"].tolist() == [1.0, 0.5, 0.0]
    torch.testing.assert_close(find_instances(*inputs, min_share=0).instances["scores"][2], torch.tensor(0.8))
    assert len(find_instances(*inputs, background=0.6).instances["masks"]) == 2


def test_joined_fragments_have_one_centroid() -> None:
    """Two ends of an object behind another, and an object of the same cluster with a centroid of its own."""
    scores = torch.zeros(1, 24, 40)
    scores[0, 4:8, 2:8] = scores[0, 4:8, 14:20] = scores[0, 14:20, 28:36] = 1.0
    displacement = torch.zeros(2, 24, 40)
    displacement[1, 4:8, 2:8], displacement[1, 4:8, 14:20] = 4.0, -8.0
    displacement[1, 4:8, 8:14] = 10.0 - torch.arange(8, 14)
    inputs = displacement, scores, torch.tensor([1]), stand_still, (24, 40)
    assert len(find_instances(*inputs).instances["masks"]) == 3
    joined = find_instances(*inputs, join=True).instances
    assert joined["masks"].sum((1, 2)).tolist() == [48, 48]
    assert joined["masks"][0, 4:8].any(0).nonzero().flatten().tolist() == [*range(2, 8), *range(14, 20)]


def test_nothing_to_find() -> None:
    """No class, scores of 0, and a displacement field without a region near zero."""
    model, image = build(), torch.randn(1, 3, 30, 41)
    for scores in (torch.zeros(0, 30, 41), torch.zeros(2, 30, 41)):
        found = model.instances(image, scores, torch.arange(1, len(scores) + 1))
        assert found["masks"].shape == (0, 30, 41)
        assert found["labels"].shape == found["scores"].shape == (0,)
        assert (found["masks"].dtype, found["labels"].dtype) == (torch.bool, torch.int64)
    scores = torch.zeros(1, 30, 41)
    scores[0, 5:15, 5:15] = scores[0, 5:15, 25:35] = 1.0
    inputs = torch.full((2, 30, 41), 4.0), scores, torch.tensor([3]), stand_still, (30, 41), 0.25, 20
    for join in (False, True):
        assert find_instances(*inputs, join=join).clusters.eq(0).all()
        nothing = find_instances(*inputs[:5], background=1, centroid_steps=20, join=join).instances
        assert len(nothing["masks"]) == 0
    assert len(find_instances(*inputs).instances["masks"]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(2, 3, 32, 40)}, r"one image .* got \(2, 3, 32, 40\) and \(2, 32, 40\)"),
        ({"scores": torch.zeros(32, 40)}, r"scores \[K, H', W'\], got .* and \(32, 40\)"),
        ({"scores": torch.full((2, 32, 40), math.nan)}, "scores must be finite"),
        ({"classes": torch.tensor([0, 1])}, r"from 1 to 12, got \[0, 1\]; the keys of seeds count from 0"),
        ({"classes": torch.tensor([1, 13])}, r"from 1 to 12, got \[1, 13\]"),
        ({"classes": torch.tensor([1])}, r"the numbers of the 2 maps, .* got \[1\]"),
        ({"background": 1.5}, "must be in \\[0, 1\\], got background=1.5"),
        ({"min_share": -0.1}, "got background=0.25, min_share=-0.1"),
        ({"min_share": math.nan}, "min_share=nan"),
        ({"centroid_steps": -1}, "steps must be at least 0, got -1"),
        ({"cluster_threshold": 0.0}, "threshold must be above 0 pixels of the grid, got 0.0"),
    ],
)
def test_mistakes(change: dict[str, Any], message: str) -> None:
    arguments = {
        "image": torch.zeros(1, 3, 32, 40),
        "scores": torch.ones(2, 32, 40),
        "classes": torch.tensor([1, 2]),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        build().instances(**arguments)


def test_mistakes_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.zeros(1, 3, 32, 40), torch.ones(1, 32, 40), torch.tensor([1])
    with pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        build().train().instances(*inputs)
    model = build()
    model.displacement_branch.mean_shift.get_buffer("mean").fill_(math.nan)
    with pytest.raises(ValueError, match=r"displacement must be finite, got NaN .*: check the weights"):
        model.instances(*inputs)
    with pytest.raises(ValueError, match="more than max_memory=1000: raise it"):
        build(max_memory=1000).instances(*inputs)
    grids = torch.zeros(2, 8, 9), torch.ones(1, 8, 10), torch.tensor([1])
    with pytest.raises(ValueError, match=r"got \(1, 8, 10\), \(1,\) and \(2, 8, 9\)"):
        find_instances(*grids, stand_still, (8, 10))
