"""The settings of the pipeline: one parser, and what a network's section of them builds."""

import json
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace

from fbr_plugin.data.dataset import Stage
from fbr_plugin.data.files import read_once
from fbr_plugin.data.fingerprint import content_hash, fingerprint
from fbr_plugin.data.layout import LayoutDataModule
from fbr_plugin.data.loading import WSSSDataModule
from fbr_plugin.data.saliency import find_saliency
from fbr_plugin.distributed import is_first_process
from fbr_plugin.pipeline.dense_crf import import_pydensecrf
from fbr_plugin.pipeline.maps import SeedStyle
from fbr_plugin.pipeline.refine import Method, default_method
from fbr_plugin.workflow.stages import CHECKPOINT

TRAININGS = ("classifier", "baseline", "irn", "segmentation")
Refiner = Literal["auto", "crf", "pamr", "none"]
# What no result depends on: where files lie (their content counts) and how they are loaded; what is shown.
ELSEWHERE = {"root", "num_workers", "eval_batch_size", "pseudo_label_dir", "saliency_dir"}
SHOWN = {"enable_progress_bar", "enable_model_summary", "log_every_n_steps", "logger", "profiler"}


@dataclass
class Labels:
    """Labels of two thresholds, made of seeds.

    Args:
        fg: a pixel whose best score exceeds it has that class.
        bg: a pixel whose best score is at most this is background; those in between are ignored.
        refine: by what labels are refined along edges; "auto" is a dense CRF where pydensecrf2 is installed,
            else PAMR.
        scale: divides the distances of the CRF, which suit PASCAL VOC's photos: n where objects are n times
            smaller.
    """

    fg: float = 0.30
    bg: float = 0.05
    refine: Refiner = "none"
    scale: float = 1.0


@dataclass
class Masks:
    """Masks of every pixel, made of seeds.

    Args:
        background: score of the background, beside seeds raised to `power`; None takes .25 after IRN's random
            walk, else the threshold at which the seeds of images and of their mirror images agree best.
        power: to which seeds are raised (AMN 1.3, BAS 1.5), before IRN's random walk.
        refine: by what masks are refined along edges, as in the labels.
        scale: of the CRF, as in the labels.
    """

    background: float | None = None
    power: float = 1.0
    refine: Refiner = "auto"
    scale: float = 1.0


def parser() -> ArgumentParser:
    """The settings of the whole pipeline."""
    result = ArgumentParser(
        prog="fbr-plugin pipeline",
        description="Train a classifier on image labels, a baseline on labels of its seeds, IRN on those of "
        "the baseline's, and a segmentation network on the masks of it all; score every stage. Each stage "
        "has a folder, is skipped while neither its settings nor what it starts from change, and goes on "
        "where it was cut.",
    )
    result.add_argument("--config", action="config", help="YAML file of settings")
    result.add_argument("--output", type=Path, default=Path("runs/pipeline"), help="folder of the stages")
    result.add_argument("--seed_everything", type=int, default=0, help="random seed of every stage")
    result.add_argument("--from", metavar="STAGE", help="make this stage and those after it again")
    result.add_argument("--until", metavar="STAGE", help="end with this stage")
    result.add_argument(
        "--dry-run", action="store_true", help="say what would be made, and why; make nothing"
    )
    result.add_subclass_arguments(WSSSDataModule, "data", required=True)
    result.add_class_arguments(pl.Trainer, "trainer", instantiate=False)
    for name in TRAININGS:
        result.add_subclass_arguments(pl.LightningModule, f"{name}.model", required=name == "classifier")
        result.link_arguments(
            "data.num_classes", f"{name}.model.init_args.num_classes", apply_on="instantiate"
        )
        for part in ("trainer", "data"):
            what = f"arguments of {part} for the {name} alone"
            result.add_argument(f"--{name}.{part}", type=dict[str, Any], default={}, help=what)
    what = "what AMN is trained on; null makes none, for a baseline that needs none"
    result.add_argument("--labels", type=Labels | None, default=Labels(), help=what)
    result.add_argument(
        "--seeds", type=SeedStyle | None, help="write the seeds as arrays, too, in this style"
    )
    result.add_argument("--affinity", type=Labels, default=Labels(), help="what IRN is trained on")
    result.add_argument("--masks", type=Masks, default=Masks(), help="the result for the training images")
    return result


def method(refiner: Refiner) -> Method | None:
    """The refiner that a setting means here; an ImportError where it is not installed."""
    if refiner == "crf":
        import_pydensecrf()
    return default_method() if refiner == "auto" else None if refiner == "none" else refiner


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
        self.data = {**data, "init_args": {**data["init_args"], **section["data"]}}
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
            ignored = getattr(resolve_name(self.model["class_path"]), "prediction_only", ())
            kept = {key: value for key, value in kept.items() if key not in ignored}
        own = {key: value for key, value in self.data["init_args"].items() if key not in ELSEWHERE}
        files: dict[str, dict[str, str]] = {}
        if isinstance(self.module, LayoutDataModule):
            files = {use: _files(self.module, use) for use in uses}
        if kept.get("weights") and Path(kept["weights"]).is_file():
            kept = {**kept, "weights": content_hash([Path(kept["weights"])])}
        data = {"class_path": self.data["class_path"], "init_args": own, "files": files}
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
    if is_first_process():
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


def _instance(base: type, spec: dict[str, Any], given: dict[str, Any]) -> Any:
    """An instance of a class by its path."""
    one = ArgumentParser(exit_on_error=False)
    one.add_subclass_arguments(base, "value")
    value = {"class_path": spec["class_path"], "init_args": {**spec["init_args"], **given}}
    return _instantiate(one, {"value": value}).value


def _instantiate(built_by: ArgumentParser, values: dict[str, Any]) -> Namespace:
    parsed = built_by.parse_object(values)
    return getattr(built_by, "instantiate", built_by.instantiate_classes)(parsed)
