"""What a photo costs the CPU and the disk, whatever the network: measured on an example."""

import json
import tempfile
from functools import cache, partial
from math import ceil
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.recipe_cost.networks import PRESENT, Size, example, timed
from fbr_plugin.baselines.irn.instances import find_instances
from fbr_plugin.baselines.tasks.localization_scores import LocalizationScores
from fbr_plugin.data.readers.images import read_image, write_mask
from fbr_plugin.data.settings import Augmentation
from fbr_plugin.data.transforms import apply_transform, eval_transform, train_transform
from fbr_plugin.functional import random_walk
from fbr_plugin.postprocess.refine import Method, refine


@cache
def reading_seconds(size: Size, augmentation: str = "", square: int | None = None) -> float:
    """Core-seconds to read a JPEG of this size and to augment it, or to resize it to a square."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "example.jpg")
        Image.fromarray(example(size)[0]).save(path, quality=90)
        given = Augmentation(**json.loads(augmentation or "{}"))
        transform = train_transform(given) if augmentation else eval_transform(square=square)
        return timed(lambda: apply_transform(transform, {"image": read_image(path)}, 0), repeats=10)


@cache
def crf_seconds(size: Size, maps: int, method: Method, steps: int = 10) -> float:
    """Core-seconds of the CRF on a photo with this number of scores."""
    photo, scores = example(size)[0], torch.rand(maps, *size).numpy()
    return timed(lambda: refine(photo, scores, method, steps=steps))


@cache
def walk_seconds(size: Size) -> float:
    """Core-seconds of IRN's random walk over a photo."""
    grid = [ceil(side / 4) for side in size]
    scores, boundary = torch.rand(PRESENT, *grid), 0.3 * torch.rand(*grid)
    return timed(lambda: random_walk.propagate(scores, boundary))


@cache
def instance_seconds(size: Size) -> float:
    """Core-seconds of separating the instances of a photo, four of each class, with a walk from each."""
    grid = [ceil(side / 4) for side in size]
    scores, boundary = torch.rand(PRESENT, *grid), 0.3 * torch.rand(*grid)
    places = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij")).float()
    halves = torch.tensor([side / 2 for side in grid])[:, None, None]
    field = (places // halves + 0.5) * halves - places  # towards the middle of each quarter
    classes = torch.arange(1, PRESENT + 1)
    propagated = partial(random_walk.propagate, boundary=boundary)

    def walk(maps: Tensor) -> Tensor:
        return interpolate(propagated(maps)[None], size)[0]

    return timed(lambda: find_instances(field, scores, classes, walk, size))


@cache
def metrics_seconds(side: int, masks: bool) -> float:
    """Core-seconds of the metrics of localization for an image."""
    scores, maps = LocalizationScores(2, 0.25), example((side, side))[1][None] / 2
    if masks:
        return timed(lambda: scores.update_pixels([(maps[0] > 0).long()], maps))
    batch = {"label": torch.tensor([[1.0, 0.0]]), "boxes": [torch.tensor([[9, 9, side // 2, side // 2]])]}
    return timed(lambda: scores.update_boxes(batch, maps, torch.zeros(1, 2), maps))


@cache
def mask_bytes(size: Size) -> int:
    """Bytes of the file of a mask."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "example.png")
        write_mask(path, example(size)[1].byte().numpy())
        return path.stat().st_size
