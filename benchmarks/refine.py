"""Compare refiners on damaged masks: `python benchmarks/refine.py FOLDER`, on the CPU, on Linux.

The masks of real photos are damaged as coarse scores are: each class is eroded, averaged over the cells of a
grid of stride 16 and interpolated again. Each refiner runs in a process of its own. The CRF of METHOD's
parameters has scale 1; `--scales` adds others for smaller objects (see `fbr_plugin.postprocess.refine`).
"""

import argparse
import json
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fbr_plugin.data.readers.images import read_image, read_mask
from fbr_plugin.data.readers.labels import read_ids, read_lines
from fbr_plugin.files import write_text
from fbr_plugin.metrics.segmentation import SegmentationScore
from fbr_plugin.postprocess.refine import refine


def damage(masks: torch.Tensor, erosion: int, stride: int) -> NDArray[np.float32]:
    """Scores [1+C, H, W] of masks [C, H, W] in {0, 1}, eroded by some pixels and blurred to a grid."""
    if len(masks):
        masks = -F.max_pool2d(-masks[None], 2 * erosion + 1, 1, erosion)[0]
    maps = torch.cat([1 - masks.sum(0, keepdim=True), masks])[None]
    height, width = maps.shape[2:]
    coarse = F.interpolate(maps, (-(-height // stride), -(-width // stride)), mode="area")
    return F.interpolate(coarse, (height, width), mode="bilinear")[0].numpy()


def damaged_photos(
    args: argparse.Namespace, num_classes: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]]:
    """Image [H, W, 3], scores [K, H, W], their K classes and true mask [H, W] of each photo."""
    for name in read_ids(args.folder / "ImageSets" / "Segmentation" / f"{args.list}.txt")[: args.photos]:
        mask = read_mask(args.folder / "SegmentationClass" / f"{name}.png", num_classes)
        classes = np.array([0, *(c for c in range(1, num_classes + 1) if (mask == c).any())])
        maps = torch.from_numpy((mask == classes[1:, None, None]).astype(np.float32))
        scores = damage(maps, args.erosion, args.stride)
        yield read_image(args.folder / "JPEGImages" / f"{name}.jpg"), scores, classes, mask


def memory(entry: str) -> float:
    """An entry of this process's status in MB: VmRSS is the memory it has, VmHWM the most that it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(entry)).split()[1]) / 1024


def measure(args: argparse.Namespace, options: dict[str, Any] | None) -> dict[str, Any]:
    """Quality, median seconds on one core and added memory of a refiner; None keeps the damaged masks."""
    torch.set_num_threads(1)
    num_classes = len(read_lines(args.folder / "classes.txt", "class name"))
    score = SegmentationScore(num_classes)
    seconds, before = [], 0.0
    for image, scores, classes, mask in damaged_photos(args, num_classes):
        before = before or memory("VmRSS")
        start = process_time()
        refined = scores if options is None else refine(image, scores, **options)
        seconds.append(process_time() - start)
        score.update(torch.from_numpy(classes[refined.argmax(0)]), torch.from_numpy(mask))
    result = score.compute()
    return {
        "mIoU": result.miou,
        "recall": result.recall,
        "precision": result.precision,
        "seconds": median(seconds),
        "MB": memory("VmHWM") - before,
        "IoU": result.iou,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    results = Path(__file__).parent / "results" / "refine.json"
    parser.add_argument("folder", type=Path, help="photos, masks, lists and classes.txt in the layout of VOC")
    parser.add_argument("--list", default="val", help="name of the list; default: %(default)s")
    parser.add_argument("--photos", type=int, default=60, help="the first of the list; default: %(default)s")
    parser.add_argument("--erosion", type=int, default=2, help="in pixels; default: %(default)s")
    parser.add_argument("--stride", type=int, default=16, help="in pixels; default: %(default)s")
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 2, 4], help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=results, metavar="FILE", help="default: %(default)s")
    args = parser.parse_args()
    rows: dict[str, dict[str, Any] | None] = {"damaged": None}
    for hard, of in ((False, "scores"), (True, "labels")):
        rows[f"PAMR of {of}"] = {"method": "pamr", "hard": hard}
        for scale in args.scales:
            rows[f"CRF of {of}, scale {scale:g}"] = {"method": "crf", "hard": hard, "scale": scale}
    columns = ("mIoU", "recall", "precision", "seconds", "MB")
    print(f"{'':<24}", *(f"{column:>10}" for column in columns))
    figures = {}
    for name, options in rows.items():
        with get_context("spawn").Pool(1) as pool:  # the peak of memory is the process's
            figures[name] = pool.apply(measure, (args, options))
        print(f"{name:<24}", *(f"{figures[name][column]:>10.3f}" for column in columns), flush=True)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    write_text(args.out, json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
