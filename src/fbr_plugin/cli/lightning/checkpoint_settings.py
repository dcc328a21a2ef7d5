"""The settings of a model that continues from a checkpoint."""

import sys
from collections.abc import Set
from pydoc import locate
from typing import Any

from jsonargparse import Namespace

from fbr_plugin.callbacks.checkpoints import read_checkpoint
from fbr_plugin.errors import InputError, short

# What a training continues.
_PROGRESS = ("epoch", "global_step", "loops", "optimizer_states", "lr_schedulers")


def checkpoint_settings(path: str, model: Namespace, typed: Set[str], training: bool) -> dict[str, Any]:
    """The settings that a checkpoint replaces, those on the command line itself excepted.

    Args:
        path: the checkpoint, or a file that `fbr-plugin import-weights` wrote.
        model: class path and arguments as parsed.
        typed: names of the arguments that are on the command line itself, with a dot before their fields.
        training: whether a training continues from it.

    Raises:
        ValueError: it is of another class, of another number of classes, or cannot be continued from.
    """
    checkpoint = read_checkpoint(path, map_location="cpu", mmap=True, weights_only=True)
    known = checkpoint.get("hyper_parameters", {})
    saved = known.get("_class_path", model.class_path)
    if saved != model.class_path and _loaded(saved) is not locate(model.class_path):
        raise InputError(
            f"{path} was saved by {short(saved)}, but the model is {model.class_path}: name that class "
            "as --model; to start another model from its encoder's weights, give --model.weights instead"
        )
    if training and "optimizer_states" not in checkpoint:
        raise InputError(
            f"{path} has weights alone, so that no training can continue from it; to start one from the "
            "weights of its encoder, give --model.weights instead"
        )
    needed = {"pytorch-lightning_version", *(_PROGRESS if training else ())}
    if lacking := sorted(needed - checkpoint.keys()):
        raise InputError(f"{path} lacks {', '.join(lacking)}: give a checkpoint that `fit` wrote")
    classes = known.get("num_classes")
    if "num_classes" in typed and classes not in (None, given := model.init_args["num_classes"]):
        raise InputError(
            f"{path} is of {classes} classes, but --model.num_classes is {given}: leave that out, or give a "
            "checkpoint of as many classes"
        )
    names = [name for name in known if name in model.init_args and not {name, f"{name}.preset"} & typed]
    settings = {name: _merged(name, known[name], model.init_args[name], typed) for name in names}
    # The checkpoint holds all weights: neither a file of weights nor a download is needed.
    unneeded = {"pretrained": False, "weights": None}
    return settings | {name: unneeded[name] for name in unneeded.keys() & {*vars(model.init_args)} - typed}


def _loaded(path: object) -> object:
    """What a class path of a checkpoint leads to in modules that are imported already; no other is."""
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    return vars(sys.modules[module]).get(name) if module in sys.modules else None


def _merged(name: str, saved: Any, parsed: Any, typed: Set[str]) -> Any:
    """A setting as it was saved, except for the fields given on the command line, and those not saved."""
    if not isinstance(saved, dict):
        return saved
    parsed = parsed.as_dict() if isinstance(parsed, Namespace) else parsed
    others = parsed if isinstance(parsed, dict) else {}
    given = {field: others[field] for field in others if f"{name}.{field}" in typed}
    return {**others, **saved, **given}
