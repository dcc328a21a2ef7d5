"""Measure the cost of the class-aware gate: `python -m benchmarks.gate`, on the CPU.

Inference with and without it takes turns, from images to finished seeds with mirror images at one scale; in
training, what the gate adds to a step, with the reclustering spread over the steps between.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from fbr_plugin import DenseView, GateConfig, recommended
from fbr_plugin.baselines import AMN, AMNFBR
from fbr_plugin.files import write_text
from fbr_plugin.modules import ClassAwareGate

CASES: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "ResNet-50, 512x512, 20 classes": ({}, 20, 512, 2),
    "small encoder, 64x64, 5 classes": ({"encoder": "small", "rates": (1, 2, 4)}, 5, 64, 16),
}


def measure(options: dict[str, Any], classes: int, size: int, batch: int, repeats: int) -> dict[str, float]:
    """Median seconds of each part, the parts taking turns."""
    torch.manual_seed(0)
    model = AMNFBR(classes, **recommended(), scales=(1.0,), **options)
    gate = model.gate
    assert isinstance(gate, ClassAwareGate)
    label = torch.zeros(batch, classes).index_fill_(1, torch.tensor([0, 1]), 1.0)
    data = {
        "id": [str(number) for number in range(batch)],
        "image": torch.randn(batch, 3, size, size),
        "label": label,
        "pseudo_label": torch.randint(2, (batch, size, size)),
    }
    logits, features, levels = (value for value in model(data["image"], label))
    view = DenseView(
        features.detach(), logits.detach(), label, levels=tuple(x.detach() for x in model.shallow(levels))
    )
    for _ in range(2):  # something to remember, and prototypes and clusters of it
        gate.update(view)
    gate.recluster(torch.Generator().manual_seed(0))
    parts: dict[str, Callable[[], Any]] = {
        "inference": lambda: predict(model, None, data),
        "inference with gate": lambda: predict(model, gate, data),
        "training step": lambda: AMN.training_step(model.train(), data, 0)["loss"].backward(),
        "FBR's part of it": lambda: gate.train().update(view),
        "recluster": lambda: gate.recluster(torch.Generator().manual_seed(0)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for repeat in range(repeats):
        # Back and forth, as memory that one part has given back is slow to get again for the next.
        for name, part in list(parts.items())[:: 1 if repeat % 2 else -1]:
            start = perf_counter()
            part()
            seconds[name].append(perf_counter() - start)
    return {name: median(taken) for name, taken in seconds.items()}


def shares(seconds: dict[str, float]) -> dict[str, float]:
    """What the gate adds to inference, and its share of a training step, in percent."""
    added = 100 * (seconds["inference with gate"] / seconds["inference"] - 1)
    fbr = seconds["FBR's part of it"] + seconds["recluster"] / GateConfig().recluster_every
    return {
        "added to inference, %": added,
        "share of a step, %": 100 * fbr / (fbr + seconds["training step"]),
    }


@torch.no_grad()
def predict(model: AMNFBR, gate: ClassAwareGate | None, data: dict[str, Any]) -> None:
    """The seeds of a batch with a gate or without."""
    model.gate = gate
    model.eval().predict_step(data, 0)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    results = Path(__file__).parent / "results" / "gate.json"
    parser.add_argument("--out", type=Path, default=results, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message=".*self.log.*")  # there is no trainer here
    figures = {}
    for name, (options, classes, size, batch) in CASES.items():
        seconds = measure(options, classes, size, batch, args.repeats)
        figures[name] = {**seconds, **shares(seconds)}
        print(name, *(f"  {part:<24}{value:>9.4f}" for part, value in figures[name].items()), sep="\n")
    write_text(args.out, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
