"""Time and memory of IRN's random walk beside squaring the dense matrix: `python benchmarks/random_walk.py`.

The walk runs in a process of its own for each number of classes, on one thread. Of the dense definition, one
squaring is timed on smaller grids; eight of them on the large one are extrapolated with the cube of the
number of pixels.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from fbr_plugin.files import write_text
from fbr_plugin.functional.random_walk import propagate, transition_matrix

SIDE = 128
DENSE_SIDES = (64, 96)
CLASSES = (1, 20)
SQUARINGS = 8


def boundary_map(side: int) -> Tensor:
    """Weak boundaries of noise, and strong ones around cells of 32 pixels: [side, side]."""
    boundary = 0.3 * torch.rand(side, side, generator=torch.Generator().manual_seed(0))
    boundary[::32] = boundary[:, ::32] = 0.95
    return boundary


def peak() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def walk(classes: int, repeats: int) -> dict[str, float]:
    """Median seconds of a walk, and the memory of the process before and after it."""
    boundary, scores = boundary_map(SIDE), torch.rand(classes, SIDE, SIDE)
    before, seconds = peak(), []
    for _ in range(repeats):
        start = perf_counter()
        propagate(scores, boundary, steps=2**SQUARINGS)
        seconds.append(perf_counter() - start)
    return {"seconds": median(seconds), "peak MB": peak(), "of it before": before}


def squaring(side: int, repeats: int) -> float:
    """Median seconds of multiplying the dense matrix of a grid by itself."""
    matrix, seconds = transition_matrix(boundary_map(side)).to_dense(), []
    for _ in range(repeats):
        start = perf_counter()
        matrix @ matrix
        seconds.append(perf_counter() - start)
    return median(seconds)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    results = Path(__file__).parent / "results" / "random_walk.json"
    parser.add_argument("--out", type=Path, default=results, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds; default: %(default)s")
    parser.add_argument("--only", type=int, metavar="CLASSES", help="measure one walk, print it as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.only:
        print(json.dumps(walk(args.only, args.repeats)))
        return
    walks = {}
    for classes in CLASSES:  # first, as a new process inherits the peak of the one that started it
        command = [sys.executable, __file__, "--only", str(classes), "--repeats", str(args.repeats)]
        walks[classes] = json.loads(subprocess.check_output(command))
    squarings = {side: squaring(side, args.repeats) for side in DENSE_SIDES}
    dense = {side: SQUARINGS * taken * (SIDE / side) ** 6 for side, taken in squarings.items()}
    print(
        f"{SQUARINGS} squarings of the dense {SIDE}x{SIDE} matrix, {4 * SIDE**4 / 2**20:.0f} MB of float32:"
    )
    for side, taken in squarings.items():
        print(f"  {dense[side]:8.0f} s, as one at {side}x{side} takes {taken:.2f} s")
    print(f"{2**SQUARINGS} steps at {SIDE}x{SIDE}, radius 5:")
    print(f"  {'classes':>7}{'seconds':>9}{'peak MB':>9}{'of it before':>14}{'times faster':>14}")
    for classes, figures in walks.items():
        figures["times faster"] = min(dense.values()) / figures["seconds"]
        seconds, *memory, times = figures.values()
        print(f"  {classes:>7}{seconds:>9.2f}{memory[0]:>9.0f}{memory[1]:>14.0f}{times:>14.0f}")
    machine = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    figures = {"machine": machine, "walk": walks, "one squaring": squarings, "dense seconds": dense}
    write_text(args.out, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
