"""`fbr-plugin pipeline`: from image labels to scored masks in one command, saved stage by stage."""

import json
import logging
import warnings

from jsonargparse import Namespace

from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.errors import InputError
from fbr_plugin.files import check_folder, write_text
from fbr_plugin.pipeline import cache
from fbr_plugin.pipeline.build import build_stages
from fbr_plugin.pipeline.record import PipelineStage
from fbr_plugin.pipeline.report import build_report, stage_table
from fbr_plugin.pipeline.settings import parser, with_save_dir
from fbr_plugin.pipeline.training import prepare
from fbr_plugin.pipeline.wandb_stages import log_stages


def run(words: list[str]) -> None:
    """Run or plan the stages.

    Args:
        words: the command's name and its options.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it reports every Trainer
    for known in (
        "but have no `validation_step`",
        "in eval mode at the start of training",  # IRN's encoder is frozen
        "smaller than the logging interval",
        "Using `DistributedSampler`",
    ):
        warnings.filterwarnings("ignore", f".*{known}")
    config = parser(Parser).parse_args(with_save_dir(words[1:]))
    if not config.dry_run:
        if is_rank_zero():
            check_folder(config.output)
        prepare(config)
    stages = _chosen(build_stages(config), config)
    if config.dry_run:
        for stage, found in cache.plan(stages, config.output, config["from"]):
            print(f"{stage.name:21}{found.reason}")
        return
    say = print if is_rank_zero() else _nothing
    settings, records = json.loads(parser().dump(config, format="json")), {}
    stages = log_stages(stages, config)
    for stage, record in cache.run(stages, config.output, config["from"], say):
        records[stage.name] = record
        if is_rank_zero():
            write_text(config.output / "report.json", json.dumps(build_report(settings, records), indent=2))
    say(f"\n{stage_table(records)}\n\nmasks, curves and report.json: {config.output}")


def _chosen(stages: list[PipelineStage], config: Namespace) -> list[PipelineStage]:
    """The stages up to the last requested one."""
    names = [stage.name for stage in stages]
    for option in ("from", "until"):
        if config[option] not in (None, *names):
            raise InputError(f"--{option} {config[option]}: this pipeline has the stages {', '.join(names)}")
    until = config.until or names[-1]
    if config["from"] and names.index(config["from"]) > names.index(until):
        raise InputError(f"--from {config['from']} comes after --until {until}: swap them")
    return stages[: names.index(until) + 1]


def _nothing(_: str) -> None:
    """Print nothing, since the first process reports."""
