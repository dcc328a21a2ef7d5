"""Time of FBR's loss on one core: beside a straightforward implementation, and as a share of an AMN step.

    python -m benchmarks.loss [--out FILE] [--repeats N] [--channels L] [--batch B] [--threads T] [--skip-amn]

Prints a table and writes JSON. Needs scikit-learn, of the extra `test`.
"""

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import mean, median, variance
from typing import Any, cast

import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.straightforward import BatchedProducts, Straightforward, Terms
from fbr_plugin import DenseView, FBRConfig, FBRLoss, ViewShape
from fbr_plugin.baselines import AMN
from fbr_plugin.files import write_text
from fbr_plugin.modules import MemoryBank
from fbr_plugin.modules.heads import Projections

CLASSES, PRESENT = 20, 6
GRID = 32
COMPARED = ("fg", "bg", "seg", "sim", "num_queries")


def smooth_noise(batch: int, channels: int, cells: int) -> Tensor:
    """Smooth normal maps [batch, channels, GRID, GRID]."""
    return F.interpolate(torch.randn(batch, channels, cells, cells), (GRID, GRID), mode="bicubic")


def make_view(batch: int, channels: int) -> DenseView:
    """Features and activation maps of blobs, of one or two of six classes an image."""
    labels = torch.zeros(batch, CLASSES)
    for image in range(batch):
        labels[image, [image % PRESENT, (image + image % 2) % PRESENT]] = 1
    noise = 0.5 * torch.randn(batch, channels, GRID, GRID)
    features = (smooth_noise(batch, channels, 8) + noise).relu().requires_grad_()
    return DenseView(features, smooth_noise(batch, CLASSES, 5), labels)


def make_loss(channels: int, config: FBRConfig) -> FBRLoss:
    """The loss in training mode, its bank full."""
    loss = FBRLoss(ViewShape(channels, CLASSES), config)
    rows, bank = config.bank_size, cast(MemoryBank, loss.banks[0])
    nrois = torch.randn(rows, config.dim).relu()
    bank.enqueue(nrois, torch.zeros(rows, CLASSES), torch.ones(rows, dtype=torch.bool))
    return loss


def timed(step: Callable[[], Tensor], leaves: Iterable[Tensor]) -> float:
    """Seconds of a forward and backward pass to the leaves, whose gradients are cleared first."""
    for leaf in leaves:
        leaf.grad = None
    start = time.perf_counter()
    step().backward()
    return time.perf_counter() - start


def compare(channels: int, repeats: int) -> dict[str, Any]:
    """FBRLoss beside the straightforward implementations, taking turns."""
    view, loss = make_view(16, channels), make_loss(channels, FBRConfig.ppc())
    arms = {"FBR": loss, "straightforward": Straightforward(loss), "batched products": BatchedProducts(loss)}
    # The same draws in the mean, not one by one: FBR beside itself shows how far draws differ.
    first = contrast_gradient(loss, view)
    cosine = {
        name: float(F.cosine_similarity(first, contrast_gradient(arm, view), dim=0))
        for name, arm in arms.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    values: dict[str, list[list[float]]] = {name: [] for name in arms}
    for _ in range(repeats):
        for name, arm in arms.items():
            kept: list[Terms] = []

            def step(arm: nn.Module = arm, kept: list[Terms] = kept) -> Tensor:
                kept.append(arm(view))
                total: Tensor = kept[0].total
                return total

            seconds[name].append(timed(step, [view.features, *arm.parameters()]))
            values[name].append([float(getattr(kept[0], term).detach()) for term in COMPARED])
    terms = {name: [list(column) for column in zip(*rows, strict=True)] for name, rows in values.items()}
    return {
        "channels": channels,
        "hard_pixels": int(mean(terms["FBR"][-1])),
        "seconds": seconds,
        "times": {name: median(taken) / median(seconds["FBR"]) for name, taken in seconds.items()},
        "compared": COMPARED,
        "terms": {name: [mean(column) for column in columns] for name, columns in terms.items()},
        "agree": {name: all(map(agree, terms["FBR"], columns)) for name, columns in terms.items()},
        "gradient_cosine": cosine,
    }


def contrast_gradient(arm: nn.Module, view: DenseView) -> Tensor:
    """The gradient of both contrasts at the features, flat."""
    terms = arm(view)
    return torch.autograd.grad(terms.fg + terms.bg, view.features)[0].flatten()


def agree(ours: list[float], theirs: list[float]) -> bool:
    """Whether two means differ by at most five standard errors, and rounding."""
    error = math.sqrt(variance(ours) / len(ours) + variance(theirs) / len(theirs))
    return abs(mean(ours) - mean(theirs)) <= 5 * error + 1e-5 * abs(mean(theirs))


def share(batch: int, repeats: int, threads: int) -> dict[str, Any]:
    """FBR beside the forward and backward pass of AMN with ResNet-50 at 512x512, taking turns."""
    torch.set_num_threads(threads)
    amn = AMN(CLASSES)
    channels = amn.feature_channels
    view, loss = make_view(batch, channels), make_loss(channels, FBRConfig.amn())
    view.scores = 3 * smooth_noise(batch, 1 + CLASSES, 5)
    pseudo_label = torch.randint(1 + CLASSES, (batch, 512, 512))
    data = {"image": torch.randn(batch, 3, 512, 512), "label": view.labels, "pseudo_label": pseudo_label}

    def projections() -> Tensor:
        out: Projections = loss.heads(view.features)
        return out.foreground.sum() + out.before_relu.sum()

    steps: dict[str, Callable[[], Tensor]] = {
        "FBR": lambda: loss(view).total,
        "its projections": projections,
        "AMN": lambda: amn.training_step(data, 0)["loss"],
    }
    leaves = [view.features, *loss.parameters(), *amn.parameters()]
    flops = {}
    for name, step in steps.items():  # also warms up
        with FlopCounterMode(display=False) as counter:
            timed(step, leaves)
        flops[name] = counter.get_total_flops()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            seconds[name].append(timed(step, leaves))
    return {
        "batch": batch,
        "threads": threads,
        "channels": channels,
        "hard_pixels": int(loss(view).num_queries),
        "seconds": seconds,
        "percent": percentages({name: median(taken) for name, taken in seconds.items()}),
        "flops": flops,
        "flops_percent": percentages(flops),
    }


def percentages(costs: Mapping[str, float]) -> dict[str, float]:
    """Each cost in percent of a step with FBR."""
    return {name: 100 * cost / (costs["AMN"] + costs["FBR"]) for name, cost in costs.items()}


def report_comparison(result: dict[str, Any]) -> str:
    """The figures of `compare` as a table."""
    lines = [
        f"Loss, forward and backward: B 16, {GRID}x{GRID}, L {result['channels']}, D 128, bank 50 000,",
        f"256 negatives, {result['hard_pixels']} hard pixels of {PRESENT} classes, one core",
        f"{'':<18}{'seconds':>9}{'times':>8}"
        + "".join(f"{term:>9}" for term in COMPARED[:4])
        + f"{'hard':>6}  agree  gradient",
    ]
    for name, seconds in result["seconds"].items():
        *terms, hard = result["terms"][name]
        agree = "yes" if result["agree"][name] else "NO"
        times = f"{median(seconds):>9.3f}{result['times'][name]:>8.1f}"
        values = "".join(f"{value:>9.4f}" for value in terms) + f"{hard:>6.0f}"
        lines.append(f"{name:<18}{times}{values}{agree:>7}{result['gradient_cosine'][name]:>10.4f}")
    lines += [
        "times: the seconds of FBR. agree: with FBR's terms, within five standard errors of the draws.",
        "gradient: cosine of the contrasts' gradient with that of another draw of FBR. batched products:",
        "the straightforward implementation with a matrix product in place of torch's cosine_similarity.",
    ]
    return "\n".join(lines)


def report_share(result: dict[str, Any]) -> str:
    """The figures of `share` as a table."""
    lines = [
        f"Share of a training step, forward and backward, {result['threads']} thread(s): AMN with",
        f"ResNet-50 at 512x512, B {result['batch']}; FBR with L {result['channels']}, "
        f"{result['hard_pixels']} hard pixels",
        f"{'':<18}{'seconds':>9}{'% time':>9}{'GFLOP':>9}{'% FLOP':>9}",
    ]
    for name, seconds in result["seconds"].items():
        time_share, flop_share = result["percent"][name], result["flops_percent"][name]
        gflop = result["flops"][name] / 1e9
        lines.append(f"{name:<18}{median(seconds):>9.3f}{time_share:>9.2f}{gflop:>9.1f}{flop_share:>9.2f}")
    rest = result["percent"]["FBR"] - result["percent"]["its projections"]
    return "\n".join([*lines, f"all of FBR but its projections: {rest:.2f} % of the time"])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    results = Path(__file__).parent / "results" / "loss.json"
    parser.add_argument("--out", type=Path, default=results, metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed rounds, at least 2; default: %(default)s"
    )
    parser.add_argument("--channels", type=int, default=128, help="L of the comparison; default: %(default)s")
    parser.add_argument("--batch", type=int, default=4, help="of the AMN step; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of the AMN step; default: %(default)s")
    parser.add_argument("--skip-amn", action="store_true", help="leave out the share of an AMN step")
    args = parser.parse_args()
    if args.repeats < 2:
        parser.error(f"--repeats must be at least 2 to tell sampling error, got {args.repeats}")
    warnings.filterwarnings("ignore", message=".*self.log.*")  # there is no trainer here
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = os.getloadavg()
    with threadpool_limits(1):  # scikit-learn's threads
        comparison = compare(args.channels, args.repeats)
        print(report_comparison(comparison))
    shares = None if args.skip_amn else share(args.batch, args.repeats, args.threads)
    if shares is not None:
        print(f"\n{report_share(shares)}")
    machine = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "load": load}
    write_text(
        args.out, json.dumps({"machine": machine, "loss": comparison, "share": shares}, indent=2) + "\n"
    )
    if not all(comparison["agree"].values()):
        raise SystemExit("the implementations do not agree: they do not compute the same thing")


if __name__ == "__main__":
    main()
