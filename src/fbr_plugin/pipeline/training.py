"""One network of the pipeline's settings, with its images and Trainer."""

import json
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace

from fbr_plugin.contract import PipelineNetwork
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.fingerprint import content_hash, fingerprint
from fbr_plugin.data.readers.files import read_once
from fbr_plugin.data.readers.saliency import find_saliency
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.pipeline.settings import TRAININGS, parser
from fbr_plugin.pipeline.stages import CHECKPOINT

# What no result depends on: where files lie (their content counts) and how they are loaded; what is shown.
ELSEWHERE = {"root", "num_workers", "eval_batch_size", "pseudo_label_dir", "saliency_dir"}
SHOWN = {"enable_progress_bar", "enable_model_summary", "log_every_n_steps", "logger", "profiler"}

T = TypeVar("T")


class Training:
    """One network of the settings with its images and flags.

    Args:
        config: all settings.
        name: one of `TRAININGS`.
        modules: the data modules that networks share which have the same arguments of theirs.

    Attributes:
        module: the data module that a plan looks at.

    Raises:
        ValueError: arguments that model, data module or Trainer do not know.
    """

    def __init__(self, config: Namespace, name: str, modules: dict[str, WSSSDataModule]) -> None:
        section = config[name].as_dict()
        self.model: dict[str, Any] = section["model"]
        data = config.data.as_dict()
        self.data = {**data, "init_args": _merged(data["init_args"], section["data"])}
        defaults = parser().get_defaults().trainer.as_dict()
        common = {flag: value for flag, value in config.trainer.as_dict().items() if value != defaults[flag]}
        self.flags = {**common, **section["trainer"]}
        self.seed = config.seed_everything
        own, classifier = self.model["init_args"], config.classifier.model.init_args
        self.from_classifier = (
            name != "classifier"
            and "weights" in own
            and not own["weights"]
            and not own.get("pretrained")
            and own.get("encoder") == classifier.get("encoder")
        )
        key = json.dumps(self.data, sort_keys=True, default=str)
        if key not in modules:
            modules[key] = self.images()
        self.module = modules[key]
        self.num_classes = self.module.num_classes
        _trainer_parser().parse_object({"trainer": self.flags})  # a mistake shows before anything is made

    def images(self, labels: Path | None = None) -> WSSSDataModule:
        """The data module, with a folder of labels to train on."""
        given = {"pseudo_label_dir": str(labels)} if labels else {}
        return _instance(WSSSDataModule, self.data, given)

    def network(self, classifier: Path | None = None) -> pl.LightningModule:
        """The network, of the initialisation that its seed names.

        Args:
            classifier: folder of the classifier, with whose encoder the network starts if it has no weights
                of its own and an encoder of the same name.
        """
        given: dict[str, Any] = {"num_classes": self.num_classes}
        if classifier is not None and self.from_classifier:
            given["weights"] = str(classifier / CHECKPOINT)
        known = self.model["init_args"]
        pl.seed_everything(self.seed, verbose=False)
        return _instance(pl.LightningModule, self.model, {key: given[key] for key in given if key in known})

    def trainer_flags(self) -> dict[str, Any]:
        """The arguments of the Trainer that are given."""
        built = _instantiate(_trainer_parser(), {"trainer": self.flags})
        return {flag: built.trainer[flag] for flag in self.flags}

    def settings(self, *uses: Stage) -> dict[str, Any]:
        """What a result depends on that reads the images of these stages of the data module.

        A training alone ("fit") does not depend on what its model names as `prediction_only`.
        """
        kept = self.model["init_args"]
        if uses == ("fit",):
            network = resolve_name(self.model["class_path"])
            ignored = network.prediction_only if issubclass(network, PipelineNetwork) else ()
            kept = {key: value for key, value in kept.items() if key not in ignored}
        files: dict[str, dict[str, str]] = {}
        if isinstance(self.module, LayoutDataModule):
            files = {use: _files(self.module, use) for use in uses}
        if kept.get("weights") and Path(kept["weights"]).is_file():
            kept = {**kept, "weights": content_hash([Path(kept["weights"])])}
        data = {
            "class_path": self.data["class_path"],
            "init_args": _deciding(self.data["init_args"]),
            "files": files,
        }
        flags = {flag: value for flag, value in self.flags.items() if flag not in SHOWN}
        model = {**self.model, "init_args": kept}
        return {"model": model, "data": data, "trainer": flags, "seed": self.seed}


def trainings(config: Namespace) -> dict[str, Training]:
    """The networks that the settings ask for, by name."""
    modules: dict[str, WSSSDataModule] = {}
    return {name: Training(config, name, modules) for name in TRAININGS if config[name].model}


def prepare(config: Namespace) -> None:
    """What a run does before it is planned: build what its flags name, and make the data that is missing."""
    networks = trainings(config).values()
    for network in networks:
        network.trainer_flags()  # a mistake shows before anything is made
    if is_rank_zero():
        for module in dict.fromkeys(network.module for network in networks):
            module.prepare_data()


@read_once
def _files(module: LayoutDataModule, use: Stage) -> dict[str, str]:
    """Hashes of the images of a stage and of what belongs to them."""
    files = fingerprint(module.source(use))
    if not module.prepared(use):
        files["masks"] = "not made yet"
    if module.saliency_dir and use == "fit":
        files["saliency"] = content_hash(find_saliency(module.saliency_dir, module.ids("fit")).values())
    return files


def _trainer_parser() -> ArgumentParser:
    result = ArgumentParser(exit_on_error=False)
    result.add_class_arguments(pl.Trainer, "trainer", instantiate=False)
    return result


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Common arguments with one's own in their place, field by field where an argument has fields."""
    fields = {key: _merged(common[key], own[key]) for key in own if _nested(common.get(key), own[key])}
    return {**common, **own, **fields}


def _nested(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _deciding(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a data module that results depend on, also among fields."""
    kept = {key: value for key, value in arguments.items() if key not in ELSEWHERE}
    return {key: _deciding(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _instance(base: type[T], spec: dict[str, Any], given: dict[str, Any]) -> T:
    """An instance of a class by its path."""
    one = ArgumentParser(exit_on_error=False)
    one.add_subclass_arguments(base, "value")
    value = {"class_path": spec["class_path"], "init_args": {**spec["init_args"], **given}}
    instance: T = _instantiate(one, {"value": value}).value
    return instance


def _instantiate(built_by: ArgumentParser, values: dict[str, Any]) -> Namespace:
    parsed = built_by.parse_object(values)
    made: Namespace = getattr(built_by, "instantiate", built_by.instantiate_classes)(parsed)
    return made
