"""Bytes that FBR's collectives take in a step: by formula, and counted in two processes.

    python -m benchmarks.traffic [--images B] [--out FILE]

Prints the bytes that each process hands to collectives, at the sizes of AMN on VOC and COCO, and writes JSON.
Those of DDP, for the gradients, are not among them.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from fbr_plugin import ClassAwareGate, DenseView, FBRConfig, FBRLoss, GateConfig, ViewShape
from fbr_plugin.files import write_text
from fbr_plugin.functional import BINS

# AMN with ResNet-50 at a crop of 512.
SETS = {"VOC": ViewShape(2048, 20, level_channels=832), "COCO": ViewShape(2048, 80, level_channels=832)}
SIDE = 32


class Case(NamedTuple):
    """What the bytes depend on, beside the number of images.

    Attributes:
        shape: L, C, and the channels of the levels W.
        side: h = w of the grid.
        global_batch: whether the processes share a batch.
        config: settings of the losses.
        gate: settings of the gate.
    """

    shape: ViewShape
    side: int
    global_batch: bool
    config: FBRConfig = FBRConfig()
    gate: GateConfig = GateConfig()


def losses(case: Case, images: int) -> dict[str, int]:
    """The bytes of FBR's losses for a view of so many images on each process, by what they are for."""
    config, classes, pixels = case.config, case.shape.num_classes, case.side**2
    rows = pixels if config.bank_rows == "pixels" else config.num_clusters
    bank = images * rows * (4 * config.dim + classes + 1)  # vectors, labels, and whether they count
    if not case.global_batch:
        return {"bank": bank, "agreement": 4 + 8}
    best = max(1, pixels // config.topk_divisor)
    return {
        "bank": bank,
        "agreement": 4 + 16,
        "prototypes": classes * (4 * best + 2 * 8 + 4 * config.dim),
        "pseudo labels": 8 * images * pixels,
        "negatives": 4 * classes * config.num_negatives * config.dim,
        "means": 8 * classes + 6 * 4,
        "normalisation": 4 * 4 * config.dim,  # mean and variance, and their gradients
    }


def gate(case: Case, images: int) -> dict[str, int]:
    """The bytes of the gate for a view of so many images on each process, by what they are for."""
    config, classes, pixels = case.gate, case.shape.num_classes, case.side**2
    width = case.shape.hypercolumn_channels
    background = min(config.background_pixels, pixels)
    own = min(config.class_pixels, max(1, pixels // config.topk_divisor))
    taken = {
        "background": images * background * (4 * width + classes + 1),
        "pixels of classes": images * classes * own * (4 * width + 8 + 1),
        "distributions": 2 * 4 * BINS,
    }
    if not case.global_batch:
        return {**taken, "agreement": 4 + 2 * 8, "similarity": 2 * 4 * classes}
    return {**taken, "agreement": 4 + 16, "similarity": 4 * images * classes * pixels, "means": 2 * 4}


def clusters(case: Case) -> int:
    """The bytes of the gate's prototypes and clusters, in the steps in which they are renewed."""
    config, classes = case.gate, case.shape.num_classes
    width = case.shape.hypercolumn_channels
    return 4 * width * (classes * config.num_prototypes + config.num_clusters) + classes * config.num_clusters


@contextmanager
def counted() -> Iterator[list[int]]:
    """Keep the bytes that this process hands to collectives."""
    kept: list[int] = []
    originals = {name: getattr(dist, name) for name in ("all_reduce", "all_gather", "broadcast")}

    def count(name: str, *given: Any, **options: Any) -> Any:
        own: Tensor = given[1] if name == "all_gather" else given[0]
        kept.append(own.numel() * own.element_size())
        return originals[name](*given, **options)

    for name in originals:
        setattr(dist, name, partial(count, name))
    try:
        yield kept
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def count_step(case: Case, images: int) -> tuple[int, int]:
    """The bytes that this process hands over for the losses and for the gate in the second of two steps."""
    shape, side = case.shape, case.side
    fbr = FBRLoss(shape, case.config, case.global_batch)
    learner = ClassAwareGate(shape, case.gate, case.global_batch)
    for _ in range(2):  # in the first, all take the state of the first process
        features = torch.randn(images, shape.channels, side, side, requires_grad=True)
        scores, labels = (torch.rand(images, shape.num_classes, *grid) for grid in ([side, side], []))
        level = torch.rand(images, shape.hypercolumn_channels, side, side)
        view = DenseView(features, scores, labels.round(), levels=(level,))
        with counted() as of_losses:
            fbr(view).total.backward()
        with counted() as of_gate:
            learner.update(view)
    return sum(of_losses), sum(of_gate)


def _process(number: int, folder: str, images: int) -> None:
    """Count in one of two processes; the first writes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    found = [count_step(case, images) for case in cases()]
    if number == 0:
        Path(folder, "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def cases() -> list[Case]:
    """What is counted: both data sets, each without and with a global batch."""
    return [Case(shape, SIDE, shared) for shape in SETS.values() for shared in (False, True)]


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    results = Path(__file__).parent / "results" / "traffic.json"
    parser.add_argument("--images", type=int, default=4, help="B on each process; default: %(default)s")
    parser.add_argument("--out", type=Path, default=results, metavar="FILE", help="default: %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, (folder, args.images), nprocs=2)
        found = json.loads(Path(folder, "found.json").read_text())
    rows = []
    print(f"bytes that each process hands over in a step, with {args.images} images on each")
    for case, counts in zip(cases(), found, strict=True):
        formulas = losses(case, args.images), gate(case, args.images)
        for part, formula, number in zip(("losses", "gate"), formulas, counts, strict=True):
            row = {"classes": case.shape.num_classes, "part": part, "global_batch": case.global_batch}
            rows.append({**row, "formula": formula, "counted": number})
            print(*(f"{name} {value}," for name, value in row.items()), end=" ")
            print(f"{sum(formula.values())} by formula, {number} counted: {formula}")
        print(f"classes {case.shape.num_classes}, clusters at times: {clusters(case)} by formula")
    write_text(args.out, json.dumps({"images": args.images, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
