"""What IRN's separation finds if boundaries, displacements and scores are true: the limit of the method.

`python -m benchmarks.separation` counts the true instances of scenes that are recovered, and draws scenes
whose instances of one class touch.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad
from tqdm import tqdm

from fbr_plugin import figures
from fbr_plugin.baselines.irn.instances import InstanceSteps, Relations, find_instances, of_parts
from fbr_plugin.data.scenes.scene import Scene
from fbr_plugin.data.scenes.shapes import CLASS_NAMES
from fbr_plugin.data.scenes.source import SyntheticScenes
from fbr_plugin.functional import propagate
from fbr_plugin.instances import Instances

ROWS = 4  # scenes of the figure


class TrueSeparation(NamedTuple):
    """An image's true relations, and what is found with them, for a figure.

    Attributes:
        relations: on the grid.
        steps: centroids and clusters on the grid, instances at the size of the image.
    """

    relations: Relations
    steps: InstanceSteps


@torch.no_grad()
def separate_truth(
    instances: Tensor, mask: Tensor, fineness: int = 2, walk_steps: int = 256, **settings: Any
) -> TrueSeparation:
    """Separate the true masks of an image's classes by its true relations.

    Args:
        instances: [H, W] integers, see `true_relations`.
        mask: [H, W] class numbers 1..C of the instances.
        fineness: see `true_relations`.
        walk_steps: steps of the random walk.
        settings: see `find_instances`.
    """
    relations = true_relations(instances, fineness)
    classes = mask[instances > 0].long().unique()
    scores = ((mask == classes[:, None, None]) & (instances > 0)).float()
    scores = scores.repeat_interleave(fineness, 1).repeat_interleave(fineness, 2)

    def walk(maps: Tensor) -> Tensor:
        return avg_pool2d(propagate(maps, relations.boundary, steps=walk_steps), fineness)

    steps = find_instances(relations.displacement, scores, classes, walk, instances.shape, **settings)
    return TrueSeparation(relations, steps)


def true_relations(instances: Tensor, fineness: int = 1) -> Relations:
    """Boundaries and displacements of known instances.

    Args:
        instances: [H, W] integers, 0 where there is no instance; those in front have higher numbers.
        fineness: grid pixels per pixel, each way. With 2, boundaries lie between the pixels.

    Returns:
        On a grid of `fineness` times the size: a boundary of 1 at the pixels beside a higher number, so that
        only what lies behind loses its rim, and displacements towards the pixel of each instance that is
        nearest to its mean position, 0 in the background. A mean position can lie in another instance, whose
        displacements would lead on from there.
    """
    numbers = instances.long().repeat_interleave(fineness, 0).repeat_interleave(fineness, 1)
    around = pad(numbers[None, None].float(), (1, 1, 1, 1), mode="replicate")[0, 0]
    beside = torch.stack([around[2:, 1:-1], around[:-2, 1:-1], around[1:-1, 2:], around[1:-1, :-2]])
    axes = [torch.arange(side, device=numbers.device) for side in numbers.shape]
    places, parts = torch.stack(torch.meshgrid(*axes, indexing="ij")), numbers.flatten()

    def spread(values: Tensor, reduce: str) -> Tensor:
        return torch.cat([values.new_zeros(1), of_parts(values, parts, reduce)])[numbers]

    means = torch.stack([spread(axis.float(), "mean") for axis in places])
    distance = (places - means).square().sum(0)
    index = torch.arange(parts.numel(), device=parts.device).view_as(numbers)
    nearest = spread(index.where(distance == spread(distance, "amin"), parts.numel()), "amin")
    centres = torch.stack([nearest // numbers.shape[1], nearest % numbers.shape[1]])
    return Relations((beside.amax(0) > numbers).float(), (centres - places).where(numbers > 0, 0).float())


def truth_of(scene: Scene) -> tuple[Instances, Tensor, Tensor]:
    """The instances of a scene; their numbers [H, W], and their classes [H, W]."""
    numbers, mask = torch.from_numpy(scene.instances).long(), torch.from_numpy(scene.mask).long()
    known = numbers[numbers > 0].unique()
    masks = numbers == known[:, None, None]
    found: Instances = {"masks": masks, "labels": (masks * mask).amax((1, 2))}
    return found, numbers, mask


def recovered(truth: Instances, found: Instances, overlap: float = 0.75) -> list[bool]:
    """Whether each true instance has a predicted one of its class with at least this IoU."""
    result = []
    for true, label in zip(truth["masks"], truth["labels"], strict=True):
        masks = found["masks"][found["labels"] == label]
        ious = (masks & true).sum((1, 2)) / (masks | true).sum((1, 2))
        result.append(bool((ious >= overlap).any()))
    return result


def touching(numbers: Tensor, mask: Tensor) -> bool:
    """Whether two instances of one class have pixels side by side."""
    pairs = ((slice(1, None), slice(None)), (slice(None, -1), slice(None)))
    for one, other in (pairs, tuple((columns, rows) for rows, columns in pairs)):
        both = (numbers[one] > 0) & (numbers[other] > 0) & (numbers[one] != numbers[other])
        if (both & (mask[one] == mask[other])).any():
            return True
    return False


def clustered(steps: InstanceSteps, numbers: Tensor, mask: Tensor) -> Instances:
    """The clusters of pixels as instances of the class in which most of their objects' pixels lie."""
    fineness = len(steps.clusters) // len(numbers)
    clusters = steps.clusters[::fineness, ::fineness]
    masks = (clusters == clusters[numbers > 0].unique()[:, None, None]) & (numbers > 0)
    return {"masks": masks, "labels": torch.stack([mask[each].mode().values for each in masks])}


def measure(scenes: Iterable[Scene], picture: Path) -> None:
    """Print the share of recovered instances without and with `join`, and draw the first touching ones."""
    shares: dict[bool, list[bool]] = {False: [], True: []}
    photos: list[Tensor] = []
    columns: dict[str, list[Instances]] = {name: [] for name in ("truth", "clusters", "instances", "joined")}
    for scene in scenes:
        truth, numbers, mask = truth_of(scene)
        if not len(truth["labels"]):
            continue
        plain, joined = (separate_truth(numbers, mask, join=join).steps for join in (False, True))
        shares[False] += recovered(truth, plain.instances)
        shares[True] += recovered(truth, joined.instances)
        if touching(numbers, mask) and len(photos) < ROWS:
            photos.append(torch.from_numpy(scene.image).permute(2, 0, 1) / 255)
            drawn = (truth, clustered(plain, numbers, mask), plain.instances, joined.instances)
            for column, instances in zip(columns.values(), drawn, strict=True):
                column.append(instances)
    for join, found in shares.items():
        print(f"join={join}: {sum(found)} of {len(found)} instances, {100 * sum(found) / len(found):.1f}%")
    rule = "The first scenes whose instances of one class touch."
    figures.save(figures.instances_over_images(photos, columns, CLASS_NAMES, note=rule), picture)


def main() -> None:
    """Measure on scenes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.separation", description=__doc__)
    parser.add_argument("--scenes", type=int, default=200, help="their number; default: %(default)s")
    parser.add_argument("--size", type=int, default=64, help="of the scenes; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("docs/separation.png"), help="the picture")
    options = parser.parse_args()
    source = SyntheticScenes(num_images=options.scenes, size=options.size, seed=options.seed)
    measure(tqdm(source.scenes), options.output)


if __name__ == "__main__":
    main()
