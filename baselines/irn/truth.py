"""What IRN finds of instances if boundaries, displacements and scores are true: the limit of the method."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from fbr_plugin.baselines.irn.instances import InstanceSteps, Relations, find_instances, of_parts
from fbr_plugin.functional import propagate


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
