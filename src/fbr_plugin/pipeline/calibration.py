"""The stage that chooses the background of masks and of instances, and what they take without it."""

import json
from pathlib import Path

from jsonargparse import Namespace

from fbr_plugin.data.fingerprint import fingerprint
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.errors import InputError
from fbr_plugin.files import write_text
from fbr_plugin.pipeline import stages
from fbr_plugin.pipeline.record import PipelineStage, Scores
from fbr_plugin.pipeline.trained import propagator, seed_checkpoint, seed_images
from fbr_plugin.pipeline.training import Training

WALKED_BACKGROUND = 0.25  # of masks and instances after the random walk, in IRN's released code
THRESHOLD = "threshold.json"


def calibration(
    config: Namespace, seeds: Training, walk: Training | None, needs: tuple[str, ...]
) -> PipelineStage:
    """A stage that chooses the background of masks and instances with the true masks of a few images.

    Both compare it with seeds that are raised to their power, spread by the same random walk, and divided by
    their maximum.
    """
    name, masks, instances = config.calibrate, config.masks, config.instances
    for section, own in (("masks", masks), ("instances", instances)):
        if own and (given := own.background) is not None:
            raise InputError(
                f"{section}.background is {given}, but calibrate {name} is to choose it: leave out one"
            )
    if instances and instances.power != masks.power:
        raise InputError(
            f"calibrate {name} chooses one background for masks and instances, but masks.power is "
            f"{masks.power} and instances.power is {instances.power}: give both the same power"
        )
    source = seeds.module.calibration().source  # a mistake in the list shows before anything is made
    predicted = {*seeds.module.dataset("predict").source.ids}
    if others := [each for each in source.ids if each not in predicted]:
        raise InputError(
            f"{len(others)} images of the calibration list {name} are not on the list of prediction, the "
            f"first is {others[0]}: give images of which masks are made"
        )
    settings = {"power": masks.power, "walk": walk and walk.model, "calibration": fingerprint(source)}

    def make(folder: Path, inputs: dict[str, Path]) -> Scores:
        model = seeds.network(inputs.get("classifier"))
        trained = seed_checkpoint(inputs), model, seed_images(seeds, inputs), seeds.trainer_flags()
        found = stages.calibrate(folder, *trained, propagator(walk, inputs), masks.power)
        if is_rank_zero():
            write_text(folder / THRESHOLD, json.dumps(found.threshold))  # all that later stages depend on
        return found.scores()

    return PipelineStage("calibration", {**seeds.settings("predict"), **settings}, make, needs)


def calibrated_background(inputs: dict[str, Path]) -> float:
    """The background that the stage `calibration` among the inputs has chosen."""
    threshold: float = json.loads((inputs["calibration"] / THRESHOLD).read_text())
    return threshold
