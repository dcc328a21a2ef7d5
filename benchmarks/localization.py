"""Measure the effect of the class-aware gate on BAS's boxes: `python -m benchmarks.localization --help`.

Paired runs on your own images of one class each: the same data, initialisation and batches without and with
the recommended gate. Both arms start from the encoder of a CAM that is trained from scratch first.
Every seed is kept as it ends.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.effect.runs import quiet_trainer, silence
from benchmarks.effect.summary import interval
from fbr_plugin import recommended
from fbr_plugin.baselines import BAS, BASFBR, CAM
from fbr_plugin.data import Augmentation, Loading, WSOLDataModule
from fbr_plugin.experiments.results import cached
from fbr_plugin.files import write_text

# Each beside that of a fixed box in the middle of every image, where it is known.
FIGURES = {
    "gt_known_loc": "centre_box_gt_known_loc",
    "top1_loc": None,
    "max_box_acc": None,
    "max_box_acc_v2": "centre_box_max_box_acc_v2",
}
RECOMMENDED: dict[str, Any] = {**recommended()}
COMMON: dict[str, Any] = {"encoder": "small", "scales": (1.0,)}
ADAMW = {"name": "AdamW", "weight_decay": 1e-3, "warmup_steps": 20}
CAM_SETTINGS: dict[str, Any] = {**COMMON, "optimizer": {**ADAMW, "lr": 3e-3, "head_lr": 3e-3}}
BAS_SETTINGS: dict[str, Any] = {
    **COMMON,
    "wsol": True,
    "weight_frg": 0.5,
    "weight_area": 1.5,
    "optimizer": {**ADAMW, "lr": 5e-4, "head_lr": 1e-3},
}


def run_seed(options: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    """Train and score both arms of a seed, or read what is known of them."""
    trained = {
        "cam": CAM_SETTINGS,
        "bas": BAS_SETTINGS,
        **{name: asdict(value) for name, value in RECOMMENDED.items()},
    }
    key = {"root": str(options.root), "size": options.size, "epochs": [options.cam_epochs, options.epochs]}
    path = options.output / f"seed_{seed}.json"
    result = cached(path, {**key, **trained}, lambda: {"arms": train_arms(options, seed)})
    arms: dict[str, dict[str, float]] = result["arms"]
    return arms


def train_arms(options: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    """Train and score both arms of a seed."""
    size, encoder = options.size, options.output / f"cam_{seed}.ckpt"
    data = WSOLDataModule(
        options.root,
        augmentation=Augmentation(size, resize=size * 8 // 7, colour_jitter=0.3),
        eval_size=size,
        loading=Loading(eval_batch_size=16, seed=seed),
    )
    pl.seed_everything(seed, verbose=False)
    _fit(CAM(data.num_classes, **CAM_SETTINGS), data, options.cam_epochs).save_checkpoint(encoder)
    arms = {}
    for name in ("baseline", "gate"):
        pl.seed_everything(seed, verbose=False)
        settings = {**BAS_SETTINGS, "weights": str(encoder)}
        model = (
            BAS(data.num_classes, **settings)
            if name == "baseline"
            else BASFBR(data.num_classes, **RECOMMENDED, **settings)
        )
        (logged,) = _fit(model, data, options.epochs).test(model, data, verbose=False)
        arms[name] = {key.removeprefix("test/"): value for key, value in logged.items()}
    return arms


def _fit(model: pl.LightningModule, data: WSOLDataModule, epochs: int) -> pl.Trainer:
    trainer = quiet_trainer(max_epochs=epochs)
    trainer.fit(model, data)
    return trainer


def table(seeds: list[dict[str, dict[str, float]]]) -> str:
    """A Markdown table: the baseline, the paired difference, the seeds won, and the centre box."""
    lines = ["| figure | BAS | with the gate | won | centre box |\n|---|---|---|---|---|"]
    for name, centre in FIGURES.items():
        baseline = [arms["baseline"][name] for arms in seeds]
        gained = [arms["gate"][name] - arms["baseline"][name] for arms in seeds]
        spread = stdev(baseline) if len(baseline) > 1 else float("nan")
        fixed = f"{seeds[0]['baseline'][centre]:.1f}" if centre else "-"
        lines.append(
            f"| {name} | {mean(baseline):.1f} ± {spread:.1f} | {mean(gained):+.1f} ± {interval(gained):.1f} "
            f"| {sum(value > 0 for value in gained)} of {len(gained)} | {fixed} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.localization", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of images as of `examples/wsol_bas.yaml`")
    parser.add_argument("--seeds", type=int, default=5, help="how many; default: %(default)s")
    parser.add_argument("--size", type=int, default=96, help="side of the images; default: %(default)s")
    parser.add_argument("--cam-epochs", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=20, help="of BAS; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/localization"))
    options = parser.parse_args()
    silence()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    seeds = []
    for seed in range(options.seeds):
        seeds.append(run_seed(options, seed))
        print(f"{seed + 1} of {options.seeds} seeds", file=sys.stderr, flush=True)
    write_text(options.output / "table.md", table(seeds) + "\n")
    print(table(seeds))


if __name__ == "__main__":
    main()
