"""`fbr-plugin demo`: the effect of FBR and of the gate on a baseline's seeds, in minutes."""

import logging
from pathlib import Path
from typing import Literal

from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.errors import InputError, check_seeds
from fbr_plugin.files import check_folder


def demo(
    output: Path = Path("runs/demo"),
    seeds: str = "1",
    data: Path | None = None,
    preset: Literal["default", "hard", "control"] = "default",
    baseline: Literal["amn", "ppc", "bas"] = "amn",
    encoder: str = "small",
    weights: Path | None = None,
    size: int | None = None,
    crop: int | None = None,
    cam_steps: int | None = None,
    steps: int | None = None,
) -> None:
    """Compare a baseline, the same with FBR's losses, and with the recommended settings.

    A CAM classifier is trained first. All three arms start from its encoder, with the same data,
    initialisation and batches; AMN trains on labels made from its seeds. The seeds of the training images are
    scored. Results in the output folder that have the same settings are not computed again.

    Args:
        output: folder of the results: metrics.json, metrics.csv and figures.
        seeds: random seeds, separated by commas; several give means, deviations and paired differences.
        data: your own folder (JPEGImages, SegmentationClass, ImageSets, classes.txt) instead of the scenes.
        preset: how often the scenes' classes co-occur with their stuff.
        baseline: the baseline to which FBR is added.
        encoder: "small", or the name of another encoder, at stride 8; trained from scratch without weights.
        weights: file of pretrained weights of the encoder, which is then fine-tuned at lower learning rates.
        size: side of the scenes in pixels (default 64), or longer side of your own images (default 128, with
            weights 204).
        crop: side of the square crops of your own images in training (default: the size, with weights at
            most 128).
        cam_steps: training steps of the CAM classifier (default 500, with weights 250).
        steps: training steps of the baseline (default 150, with weights 120).
    """
    # Only here, so that --help and a wrong option need not wait for PyTorch.
    from fbr_plugin.experiments.paired import cached_seed, check_settings
    from fbr_plugin.experiments.recipes import FINE_TUNED_CROP, recipe
    from fbr_plugin.experiments.report import paired_table, write_results

    training = recipe(weights is not None)
    if size is None:
        size = 64 if data is None else 204 if weights else 128
    if crop is None:
        crop = min(size, FINE_TUNED_CROP) if weights else size
    settings = {
        "data": data and str(data),
        "preset": preset,
        "baseline": baseline,
        "encoder": encoder,
        "weights": weights and str(weights),
        "size": size,
        "crop": crop,
        "cam_steps": training.cam_steps if cam_steps is None else cam_steps,
        "steps": training.steps if steps is None else steps,
    }
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    numbers = _parse_seeds(seeds)
    check_folder(output)
    check_settings(settings)
    results = [cached_seed(seed, settings, Path(output), draw=seed == numbers[0]) for seed in numbers]
    write_results(results, settings, Path(output))
    print(f"\n{paired_table(results)}\n\nfigures and metrics: {output}")


def _parse_seeds(seeds: str) -> list[int]:
    try:
        numbers = [int(seed) for seed in str(seeds).split(",")]
    except ValueError:
        raise InputError(f"--seeds takes whole numbers separated by commas, got {seeds!r}") from None
    check_seeds("--seeds", numbers)
    return numbers


def parser() -> Parser:
    """The parser of the command."""
    result = Parser(prog="fbr-plugin demo", description=(demo.__doc__ or "").split("Args:")[0])
    result.add_function_arguments(demo)
    return result


def run(words: list[str]) -> None:
    """Run the demo.

    Args:
        words: the command's name and its options.
    """
    demo(**parser().parse_args(words[1:]))
