"""`fbr-plugin demo`: the effect of FBR on a baseline's seeds, trained and scored in minutes."""

import logging
from pathlib import Path
from typing import Literal

from jsonargparse import auto_cli

from fbr_plugin.errors import InputError
from fbr_plugin.experiments.paired import cached_pair, check_settings
from fbr_plugin.experiments.report import paired_table, write_results


def demo(
    output: Path = Path("runs/demo"),
    seeds: str = "1",
    data: Path | None = None,
    preset: Literal["default", "hard", "control"] = "default",
    baseline: Literal["amn", "ppc", "bas"] = "amn",
    fbr: Literal["recommended", "amn", "ppc"] = "recommended",
    encoder: str = "small",
    size: int | None = None,
    cam_steps: int = 500,
    steps: int = 150,
) -> None:
    """Train a CAM classifier, make labels from its seeds, and train a baseline without and with FBR.

    Both variants start from the CAM's encoder, with the same data, initialisation and batches; AMN trains on
    the labels. The seeds of the training images are scored. Results in the output folder that have the same
    settings are not computed again.

    Args:
        output: folder of the results: metrics.json, metrics.csv and figures.
        seeds: random seeds, separated by commas; several give means, deviations and paired differences.
        data: your own folder (JPEGImages, SegmentationClass, ImageSets, classes.txt) instead of the scenes.
        preset: how often the scenes' classes co-occur with their stuff.
        baseline: the baseline to which FBR is added.
        fbr: settings of FBR: recommended, with the class-aware gate, or as published for AMN or PPC.
        encoder: "small", or the name of a timm model, trained from scratch.
        size: side of the scenes in pixels (default 64), or longer side of your own images (default 128).
        cam_steps: training steps of the CAM classifier.
        steps: training steps of the baseline.
    """
    settings = {
        "data": data and str(data),
        "preset": preset,
        "baseline": baseline,
        "fbr": fbr,
        "encoder": encoder,
        "size": size or (128 if data else 64),
        "cam_steps": cam_steps,
        "steps": steps,
    }
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    numbers = _parse_seeds(seeds)
    check_settings(settings)
    results = [cached_pair(seed, settings, Path(output), draw=seed == numbers[0]) for seed in numbers]
    write_results(results, settings, Path(output))
    print(f"\n{paired_table(results)}\n\nfigures and metrics: {output}")


def _parse_seeds(seeds: str) -> list[int]:
    try:
        return [int(seed) for seed in str(seeds).split(",")]
    except ValueError:
        raise InputError(f"--seeds takes whole numbers separated by commas, got {seeds!r}") from None


def run(words: list[str]) -> None:
    """Run the demo.

    Args:
        words: the command's name and its options.
    """
    auto_cli(demo, args=words[1:], prog="fbr-plugin demo")
