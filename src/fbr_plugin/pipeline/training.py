"""One network of the pipeline's settings, with its images and Trainer."""

import json
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from pydoc import locate
from typing import Any, TypeVar

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace

from fbr_plugin.contract import PipelineNetwork
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.datamodules.layout import LayoutDataModule
from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.fingerprint import content_hash, fingerprint
from fbr_plugin.data.readers.files import read_once, reading_once
from fbr_plugin.data.readers.saliency import find_saliency
from fbr_plugin.distributed import is_rank_zero
from fbr_plugin.errors import MissingFileError
from fbr_plugin.pipeline.settings import TRAININGS, parser
from fbr_plugin.pipeline.stages import CHECKPOINT
from fbr_plugin.presets import all_fields
from fbr_plugin.training.mixin import FBRMixin

# No result depends on where files are (only on their content), how they are loaded, and what is displayed.
ELSEWHERE = {"root", "num_workers", "eval_batch_size", "saliency_dir", "stuff_dir"}
ELSEWHERE |= {"pseudo_label_dir", "pseudo_instance_dir"}
FILES = ("weights", "combine_with")  # arguments of a model that name a file
SHOWN = {"enable_progress_bar", "enable_model_summary", "log_every_n_steps", "logger", "profiler"}

T = TypeVar("T")


class Training:
    """One network of the settings with its images and flags.

    Args:
        config: all settings.
        name: one of `TRAININGS`.
        modules: data modules by their arguments, shared by networks with the same arguments.

    Attributes:
        module: the data module used for planning.
        combined: whether the seeds are combined with the maps of the pipeline's classifier, as
            `combine_with: classifier` says.

    Raises:
        ValueError: the model, the data module or the Trainer does not have an argument.
        FileNotFoundError: there is no file of the model's weights.
    """

    def __init__(self, config: Namespace, name: str, modules: dict[str, WSSSDataModule]) -> None:
        section = config[name].as_dict()
        self.model: dict[str, Any] = section["model"]
        network = resolve_name(self.model["class_path"])
        if issubclass(network, FBRMixin):
            self.model["init_args"] |= all_fields(network, self.model["init_args"])
        data = config.data.as_dict()
        self.data = {**data, "init_args": _merged(data["init_args"], section["data"])}
        defaults = parser().get_defaults().trainer.as_dict()
        common = {flag: value for flag, value in config.trainer.as_dict().items() if value != defaults[flag]}
        self.flags = {**common, **section["trainer"]}
        self.seed = config.seed_everything
        self.calibrate = config.calibrate or ""
        own, classifier = self.model["init_args"], config.classifier.model.init_args
        weights = "encoder" in own and own.get("weights")
        if weights and not Path(weights).is_file():
            raise MissingFileError(f"{name}.model.weights={weights} does not exist; check the path")
        self.combined = own.get("combine_with") == "classifier"
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

    def images(self, labels: Path | None = None, instances: Path | None = None) -> WSSSDataModule:
        """The data module, optionally with a folder of pseudo labels or pseudo instances to train on."""
        folders = {"pseudo_label_dir": labels, "pseudo_instance_dir": instances}
        given = {name: str(folder) for name, folder in folders.items() if folder}
        module = _instance(WSSSDataModule, self.data, given)
        module.calibrate = self.calibrate
        return module

    def network(self, classifier: Path | None = None) -> pl.LightningModule:
        """The network, initialised from its seed.

        Args:
            classifier: folder of the classifier. The network starts from the classifier's encoder if it has
                the same encoder and no weights of its own; its maps are combined if `combined`.
        """
        given: dict[str, Any] = {"num_classes": self.num_classes}
        if classifier is not None and self.from_classifier:
            given["weights"] = str(classifier / CHECKPOINT)
        if classifier is not None and self.combined:
            given["combine_with"] = str(classifier / CHECKPOINT)
        known = self.model["init_args"]
        pl.seed_everything(self.seed, verbose=False)
        return _instance(pl.LightningModule, self.model, {key: given[key] for key in given if key in known})

    def trainer_flags(self) -> dict[str, Any]:
        """The given arguments of the Trainer, instantiated."""
        built = _instantiate(_trainer_parser(), {"trainer": self.flags})
        return {flag: built.trainer[flag] for flag in self.flags}

    def settings(self, *uses: Stage) -> dict[str, Any]:
        """Everything that determines a result which uses these stages of the data module.

        A training ("fit" alone) does not depend on its model's `prediction_only` arguments.
        """
        kept = self.model["init_args"]
        if uses == ("fit",):
            network = resolve_name(self.model["class_path"])
            ignored = network.prediction_only if issubclass(network, PipelineNetwork) else ()
            kept = {key: value for key, value in kept.items() if key not in ignored}
        files: dict[str, dict[str, str]] = {}
        if isinstance(self.module, LayoutDataModule):
            files = {use: _files(self.module, use) for use in uses}
        given = {name: Path(kept[name]) for name in FILES if kept.get(name)}
        kept = {**kept, **{name: content_hash([path]) for name, path in given.items() if path.is_file()}}
        data = {
            "class_path": self.data["class_path"],
            "init_args": _deciding(self.data["init_args"]),
            "files": files,
        }
        flags = {flag: value for flag, value in self.flags.items() if flag not in SHOWN}
        model = {**self.model, "init_args": kept}
        return {"model": model, "data": data, "trainer": flags, "seed": self.seed}


def trainings(config: Namespace) -> dict[str, Training]:
    """The networks in the settings, by name."""
    modules: dict[str, WSSSDataModule] = {}
    return {name: Training(config, name, modules) for name in TRAININGS if config[name].model}


@reading_once()
def data_files(spec: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Hashes of the training and test images of a data module, and of what belongs to them; {} of others.

    Args:
        spec: class path and arguments of the data module.
    """
    found = locate(spec.get("class_path", ""))
    if not isinstance(found, type) or not issubclass(found, LayoutDataModule):
        return {}
    module = _instance(LayoutDataModule, spec, {})
    uses: tuple[Stage, ...] = ("fit", "test")
    return {use: _files(module, use) for use in uses if module.list_file(module.lists[use]).is_file()}


def prepare(config: Namespace) -> None:
    """Prepare a run before it is planned: check the Trainer's arguments, and make missing data."""
    networks = trainings(config).values()
    for network in networks:
        network.trainer_flags()  # a mistake shows before anything is made
    if is_rank_zero():
        for module in dict.fromkeys(network.module for network in networks):
            module.prepare_data()


@read_once
def _files(module: LayoutDataModule, use: Stage) -> dict[str, str]:
    """Hashes of the images of a stage and of their labels, masks, maps of stuff and saliency maps."""
    files = fingerprint(module.source(use))
    if not module.prepared(use):
        files["masks"] = "not made yet"
    if module.saliency_dir and use == "fit":
        files["saliency"] = content_hash(find_saliency(module.saliency_dir, module.ids("fit")).values())
    return files


@cache
def _trainer_parser() -> ArgumentParser:
    result = ArgumentParser(exit_on_error=False)
    result.add_class_arguments(pl.Trainer, "trainer", instantiate=False)
    return result


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Common arguments, replaced by a network's own, field by field if an argument has fields."""
    fields = {key: _merged(common[key], own[key]) for key in own if _nested(common.get(key), own[key])}
    return {**common, **own, **fields}


def _nested(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def _deciding(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a data module that determine results, including nested ones."""
    kept = {key: value for key, value in arguments.items() if key not in ELSEWHERE}
    return {key: _deciding(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _instance(base: type[T], spec: dict[str, Any], given: dict[str, Any]) -> T:
    """Create an instance of a class by its path."""
    one = ArgumentParser(exit_on_error=False)
    one.add_subclass_arguments(base, "value")
    value = {"class_path": spec["class_path"], "init_args": {**spec["init_args"], **given}}
    instance: T = _instantiate(one, {"value": value}).value
    return instance


def _instantiate(built_by: ArgumentParser, values: dict[str, Any]) -> Namespace:
    made: Namespace = built_by.instantiate(built_by.parse_object(values))
    return made
