"""IRN: random walk, clusters of the displacement field, and instances."""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.recipe_cost.networks import Size
from benchmarks.speed.timing import Case, DisagreementError, differing_pixels, need
from fbr_plugin.baselines.irn.instances import find_instances
from fbr_plugin.functional import cluster_pixels, refine_centroids
from fbr_plugin.functional.random_walk import propagate

PRESENT = 2  # classes
STRIDE = 4


def boundary_map(grid: Size) -> Tensor:
    """Weak boundaries of noise, and strong ones around cells of 16 pixels: [h, w]."""
    boundary = 0.3 * torch.rand(grid, generator=torch.Generator().manual_seed(0))
    boundary[::16] = boundary[:, ::16] = 0.95
    return boundary


def field(grid: Size) -> Tensor:
    """Displacements towards the middle of each quarter of the grid, with noise: [2, h, w]."""
    places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij")).float()
    halves = torch.tensor([side / 2 for side in grid])[:, None, None]
    noise = torch.randn(2, *grid, generator=torch.Generator().manual_seed(0))
    return 0.2 * ((places // halves + 0.5) * halves - places) + 0.05 * noise


def walk(grid: Size, theirs: bool = True) -> Case:
    """256 steps of the random walk over a grid."""
    torch.manual_seed(0)
    scores, boundary = torch.rand(PRESENT, *grid), boundary_map(grid)
    indexing: Any = importlib.import_module("misc.indexing") if theirs else None
    return Case(
        lambda: propagate(scores, boundary),
        indexing and (lambda: indexing.propagate_to_edge(scores, boundary[None])[:, 0]),
        _close,
        f"grid of {grid[1]}x{grid[0]}, {PRESENT} classes, 256 steps",
    )


def _close(ours: Tensor, released: Tensor) -> str:
    difference = float((ours - released).abs().max() / released.abs().max())
    if not difference <= 1e-3:
        raise DisagreementError(f"the propagated scores differ by {difference:.2g}")
    return f"scores within {difference:.0e}"


def clusters(grid: Size, theirs: bool = True) -> Case:
    """300 steps along the displacements of a grid, and the clusters of the pixels."""
    displacement = field(grid)

    def ours() -> Tensor:
        return cluster_pixels(refine_centroids(displacement), displacement)

    def released() -> NDArray[Any]:
        step, array = importlib.import_module("step.make_ins_seg_labels"), displacement.numpy()
        found = step.cluster_centroids(step.find_centroids_with_refinement(array), array)
        return np.asarray(found.argmax(0))

    if theirs:
        need("skimage")
    text = f"grid of {grid[1]}x{grid[0]}, 300 steps"
    return Case(ours, released if theirs else None, differing_pixels(0.001), text)


class _Fixed(nn.Module):
    """Takes the place of the released network."""

    def __init__(self, boundary: Tensor, displacement: Tensor) -> None:
        super().__init__()
        self.predicted = boundary[None], displacement

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
        return self.predicted


def instances(root: Path, grid: Size, theirs: bool = True) -> Case:
    """The instances of a photo from its boundaries, displacements and scores: clusters, walks, fragments."""
    torch.manual_seed(0)
    boundary, displacement = boundary_map(grid), field(grid)
    scores, classes = torch.rand(PRESENT, *grid), torch.arange(1, PRESENT + 1)
    size = (STRIDE * grid[0], STRIDE * grid[1])

    def walked(maps: Tensor) -> Tensor:
        return interpolate(propagate(maps, boundary)[None], size, mode="bilinear")[0]

    def ours() -> NDArray[Any]:
        return _areas(find_instances(displacement, scores, classes, walked, size).instances["masks"].numpy())

    def released() -> NDArray[Any]:
        step = importlib.import_module("step.make_ins_seg_labels")
        # NumPy no longer takes the sizes as the loader would batch them.
        served = patch.object(step, "DataLoader", lambda items, **_: items)
        with served, patch.object(torch.cuda, "device_count", lambda: 2):
            step._work(0, _Fixed(boundary, displacement), [photo], args)
        return _areas(np.load(root / "photo.npy", allow_pickle=True).item()["mask"])

    np.save(root / "cams.npy", np.array({"cam": scores, "keys": np.arange(PRESENT)}, dtype=object))
    (root / "cams").mkdir()
    (root / "cams.npy").rename(root / "cams" / "photo.npy")
    photo = [{"name": ["photo"], "size": size, "img": [torch.zeros(1)]}]
    folders = {"cam_out_dir": str(root / "cams"), "ins_seg_out_dir": str(root)}
    args = SimpleNamespace(num_workers=0, beta=10, exp_times=8, ins_seg_bg_thres=0.25, **folders)
    if theirs:
        need("skimage")
    text = f"grid of {grid[1]}x{grid[0]}, {PRESENT} classes, 4 clusters"
    return Case(ours, released if theirs else None, _same_areas, text)


def _areas(masks: NDArray[Any]) -> NDArray[Any]:
    """The areas of instances, largest first."""
    areas: NDArray[Any] = np.sort(masks.reshape(len(masks), -1).sum(1))[::-1]
    return areas


def _same_areas(ours: NDArray[Any], released: NDArray[Any]) -> str:
    if len(ours) != len(released) or np.abs(ours - released).max() > 0.01 * released.max():
        raise DisagreementError(f"the instances have the areas {ours[:5]} and {released[:5]}")
    return f"{len(ours)} instances, areas within {int(np.abs(ours - released).max())} pixels"
