"""Photos with seeds, masks and instances of them, and the page of these as a browser would load it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fbr_plugin.data.instances.files import instances_path, write_instances
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.postprocess.seed_files import write_seed
from fbr_plugin.postprocess.seeds import Seed
from fbr_plugin.training.fbr_maps import write_fbr_map

CLASSES = ("boat", "cow", "train")
SIZES = {"a": (300, 400), "b": (90, 60), "c": (40, 52), "d": (64, 64)}  # the first is larger than its picture
KEYS = {"a": (0, 2), "b": (1,), "c": (), "d": (0, 1, 2)}
PLAIN = ["--images", "photos", "--masks", "truth"]


def write_runs(root: Path) -> None:
    """Write `photos` and `truth`, and the runs `cam` (seeds), `masks` and `instances`, of all images but `d`.

    `instances` has maps of FBR as well.

    Some scores equal a threshold exactly, and some of two classes are equal.
    """
    rng = np.random.default_rng(0)
    (root / "photos").mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    for name, shape in SIZES.items():
        truth = np.zeros(shape, np.uint8)
        for key in KEYS[name]:
            top, left = rng.integers(0, np.array(shape) // 2)
            truth[top : top + shape[0] // 3, left : left + shape[1] // 3] = key + 1
        truth[:3] = 255
        photo = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(photo).save(root / "photos" / f"{name}.jpg")
        write_mask(root / "truth" / f"{name}.png", truth)
        scores = rng.integers(0, 101, (len(KEYS[name]), *shape)).astype(np.float32) / 100
        keys = np.array(KEYS[name], np.int64)
        (root / "cam").mkdir(exist_ok=True)
        write_seed(root / "cam" / f"{name}.npz", Seed(keys, scores), "compact")
        if name == "d":
            continue
        write_mask(root / "masks" / f"{name}.png", np.where(truth == 2, 1, truth))
        masks = torch.zeros(3, *shape, dtype=torch.bool)
        masks[0, 5:20, 5:30], masks[1, 10:15, 10:20], masks[2, :5] = True, True, True
        found = {"labels": torch.tensor([1, 3, 2]), "scores": torch.tensor([0.9, 0.3, 0.01])}
        write_instances(instances_path(root / "instances", name), {"masks": masks, **found})
        write_fbr_map(root / "instances", "gate", name, torch.from_numpy(truth % 255), shape)
        write_fbr_map(root / "instances", "nroi", name, torch.arange(36).view(6, 6), shape)


def read_call(path: Path) -> list[Any]:
    """The arguments of the call that a script of the page makes."""
    text = path.read_text().strip()
    return json.loads(f"[{text[text.index('(') + 1 : text.rindex(')')]}]")


def mask_at(scores: NDArray[np.float32], keys: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """The argmax [H, W] over a background of this score and the classes [M, H, W], as class numbers."""
    background = np.full((1, *scores.shape[1:]), threshold, np.float32)
    return np.array([0, *(keys + 1)])[np.concatenate([background, scores]).argmax(0)]


def small(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """The nearest pixels of a mask at the size of a picture, by Pillow."""
    factor = min(1, 256 / max(mask.shape))
    height, width = (round(side * factor) for side in mask.shape)
    picture = Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    return np.array(picture)
