"""One run in Weights & Biases for each stage of a pipeline, all in one group."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.loggers import WandbLogger

from fbr_plugin.callbacks.loggers.guard import surviving
from fbr_plugin.callbacks.loggers.wandb_run import end_run
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.pipeline.record import PipelineStage, Scores


def log_stages(stages: Sequence[PipelineStage], config: Namespace) -> list[PipelineStage]:
    """The stages, each within a run of its own if the logger of the Trainers is Weights & Biases.

    Their Trainers log to that run, which also has the figures of the stage, and its scores in the summary. A
    stage that is cached starts no run.
    """
    chosen = config.trainer.logger
    ours = isinstance(chosen, Namespace) and chosen.class_path.endswith("WandbLogger")
    if not ours or not is_rank_zero():
        return list(stages)
    init = {**vars(chosen.init_args), **chosen.get("dict_kwargs", {})}
    given = {"group": config.output.name} | {key: value for key, value in init.items() if value is not None}
    given["save_dir"] = config.output  # as a stage's own folder is moved when it is complete
    return [replace(stage, make=partial(_make, stage, {**given, "name": stage.name})) for stage in stages]


def _make(stage: PipelineStage, given: dict[str, Any], folder: Path, inputs: dict[str, Path]) -> Scores:
    warnings.filterwarnings("ignore", "There is a wandb run already in progress")  # as is meant
    logger = WandbLogger(**given)
    with surviving(logger):
        _ = logger.experiment  # starts the run
    try:
        scores = stage.make(folder, inputs)
        with surviving(logger):
            logger.experiment.summary.update(scores)
            for figure in sorted(folder.glob("*.png")):
                logger.log_image(figure.stem, [str(figure)])
        return scores
    finally:
        end_run(logger)
