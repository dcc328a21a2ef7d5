"""The recipes against the released scripts: rates of each group and step, lengths, batches and other values.

`recipe_rates.json` holds what the official code, each with its commit, computed once on a toy network of a
convolution, a normalisation and a classifier, with 2 or 4 batches an epoch where epochs are counted, and the
values of its scripts.
"""

import json
import math
from pkgutil import resolve_name
from typing import Any

import pytest
import yaml
from helpers.recipes import LOCALIZATIONS, PIPELINES, RECIPES, configs, head, settings, trainings
from helpers.released import TESTS
from helpers.tiny import command

from fbr_plugin.baselines.tasks.encoder_task import EncoderTask
from fbr_plugin.training.mixin import FBRMixin
from fbr_plugin.training.optimizers import add_parameters

RELEASED: dict[str, dict[str, Any]] = json.loads((TESTS / "reference" / "recipe_rates.json").read_text())

AMN = {"classifier": "cam", "baseline": "amn", "irn": "irn", "segmentation": "deeplab"}
AMN_INSTANCES = {"classifier": "cam", "baseline": "amn", "irn": "irn"}
AMN_COCO = {name: f"{script}_coco" for name, script in AMN.items()}
BAS = {"classifier": "cam_irn", "baseline": "bas", "irn": "irn_bas", "segmentation": "deeplab"}
SCRIPTS = {
    "voc/amn": AMN,
    "voc/amn_fbr": {**AMN, "baseline": "amn_fbr"},
    "voc/amn_instances": AMN_INSTANCES,
    "voc/amn_fbr_instances": {**AMN_INSTANCES, "baseline": "amn_fbr"},
    "voc/irn": {"classifier": "cam_irn", "irn": "irn"},
    "voc/ppc": {"classifier": "ppc", "segmentation": "deeplab_ppc"},
    "voc/ppc_fbr": {"classifier": "ppc_fbr", "segmentation": "deeplab_ppc"},
    "voc/bas": {"classifier": "bas"},
    "voc/bas_irn": BAS,
    "voc/bas_fbr": BAS,
    "coco/amn": AMN_COCO,
    "coco/amn_fbr": AMN_COCO,
    "wsol/cub_resnet50": {"model": "CUB_200_2011_resnet"},
    "wsol/cub_vgg16": {"model": "CUB_200_2011_vgg"},
    "wsol/cub_inception_v3": {"model": "CUB_200_2011_inception"},
    "wsol/cub_mobilenet_v1": {"model": "CUB_200_2011_mobilenet"},
    "wsol/ilsvrc_resnet50": {"model": "ILSVRC_resnet"},
    "wsol/ilsvrc_vgg16": {"model": "ILSVRC_vgg"},
    "wsol/ilsvrc_inception_v3": {"model": "ILSVRC_inception"},
    "wsol/ilsvrc_mobilenet_v1": {"model": "ILSVRC_mobilenet"},
    "wsol/openimages_resnet50": {"model": "OpenImage_resnet"},
}
"""The script, by its name in the reference, that each training of a recipe follows."""

MASKS = {
    "voc/irn": "masks_irn",
    **dict.fromkeys(("voc/amn", "voc/amn_fbr", "voc/amn_instances", "voc/amn_fbr_instances"), "masks_amn"),
    "voc/bas_irn": "masks_bas",
    "voc/bas_fbr": "masks_bas",
    "coco/amn": "masks_amn_coco",
    "coco/amn_fbr": "masks_amn_coco",
}
EXTENTS = {
    **dict.fromkeys(("cam", "cam_coco", "cam_irn", "bas"), "cells"),
    **dict.fromkeys(("amn", "amn_fbr", "amn_coco", "ppc", "ppc_fbr"), "image"),
}
"""What the grids of all scales are stretched over, in the scripts that make seeds, by reading."""

STAGES = [(recipe, stage, script) for recipe in SCRIPTS for stage, script in SCRIPTS[recipe].items()]
PARTS = {"fbr": "head", "boundary_branch": "boundary", "displacement_branch": "displacement"}
FULL = {"encoder": "small", "pretrained": False, "weights": None, "output_stride": None}


def small(training: dict[str, Any]) -> EncoderTask:
    """The network of a training, with the small encoder and three classes."""
    spec = training["model"]
    given = {name: value for name, value in spec["init_args"].items() if name != "num_classes"}
    without = {**FULL, "combine_with": None, "top_n": None}
    own = {name: without.get(name, value) for name, value in given.items()}
    network: EncoderTask = resolve_name(spec["class_path"])(3, **own)
    return network


def kind(name: str) -> str:
    """The kind of a parameter: the part of the network, and whether it is a bias."""
    part = name.partition(".")[0]
    return f"{PARTS.get(part, part)}.{'bias' if name.endswith('bias') else 'weight'}"


def test_every_training_has_its_script() -> None:
    unreleased = {"instance_network"}
    assert {recipe: {*trainings(recipe)} - unreleased for recipe in RECIPES} == {
        recipe: {*SCRIPTS[recipe]} for recipe in RECIPES
    }


@pytest.mark.parametrize(("recipe", "stage", "script"), STAGES)
def test_rates_of_groups_and_steps(recipe: str, stage: str, script: str) -> None:
    model, released = small(trainings(recipe)[stage]), RELEASED[script]
    built = model.optimizer.build(model.parameter_groups(), released["total"], released["epoch"])
    groups, schedule = built["optimizer"].param_groups, built["lr_scheduler"]["scheduler"]
    if isinstance(model, FBRMixin):
        add_parameters([built["optimizer"]], [each for each in model.fbr.parameters() if each.requires_grad])
    group_of = {id(each): index for index, group in enumerate(groups) for each in group["params"]}
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert trained
    unlike = set()
    for name, each in trained.items():
        if name.startswith("fbr.") and not script.endswith("_fbr"):
            continue  # FBR on this baseline is not released
        group, index = groups[group_of[id(each)]], group_of[id(each)]
        factor = schedule.lr_lambdas[index]
        ours = {
            "lr": pytest.approx(
                [schedule.base_lrs[index] * factor(step) for step in released["steps"]], 1e-10
            ),
            **{key: group.get(key) for key in ("momentum", "weight_decay", "nesterov")},
        }
        theirs = released["groups"].get(kind(name))
        if theirs is None and ours["lr"] == [0.0] * len(released["steps"]):
            continue  # the released optimizer does not train it
        if theirs is None or {key: theirs.get(key) for key in ours} != ours:
            unlike.add(kind(name))
    assert unlike == set()


@pytest.mark.parametrize(("recipe", "stage", "script"), STAGES)
def test_lengths_batches_and_crops(recipe: str, stage: str, script: str) -> None:
    training, released = trainings(recipe)[stage], RELEASED[script]
    trainer, augmentation, values = (
        training["trainer"],
        training["data"]["augmentation"],
        released["settings"],
    )
    if trainer.get("max_epochs"):
        assert trainer["max_epochs"] * released["epoch"] == released["total"]
        assert trainer["max_epochs"] == values["epochs"]
    else:
        assert trainer["max_steps"] == released["total"]
    gathered = trainer.get("accumulate_grad_batches", 1)
    assert training["data"]["loading"]["batch_size"] * gathered == values["batch_size"]
    assert augmentation["crop_size"] == values["crop_size"]
    assert augmentation.get("resize") == values.get("resize", values.get("resize_size"))
    for name in ("smoothing", "scales", "flip"):
        if name in values:
            ours = training["model"]["init_args"][name]
            assert (list(ours) if isinstance(ours, tuple) else ours) == values[name]


@pytest.mark.parametrize(("recipe", "stage", "script"), [each for each in STAGES if each[2] in EXTENTS])
def test_seeds(recipe: str, stage: str, script: str) -> None:
    assert settings(recipe)[stage]["model"]["init_args"]["grid_extent"] == EXTENTS[script]


@pytest.mark.parametrize("recipe", MASKS)
def test_thresholds_and_walk(recipe: str) -> None:
    found, values = settings(recipe), RELEASED[MASKS[recipe]]["settings"]
    assert found["masks"]["background"] == values["background"]
    assert found["masks"]["power"] == values["power"]
    assert [found["affinity"]["fg"], found["affinity"]["bg"]] == values["affinity"]
    assert found["affinity"]["refine"] == "crf"
    for stage in {"classifier", "baseline"} & {*trainings(recipe)}:
        assert list(found[stage]["model"]["init_args"]["scales"]) == values["scales"]
    walk = found["irn"]["model"]["init_args"]
    assert (walk["walk_beta"], walk["walk_steps"]) == (values["walk_beta"], values["walk_steps"])
    assert walk["walk_canvas"] == (0 if recipe.startswith("coco") else 512)
    if instances := found["instances"]:
        assert [instances["background"], instances["power"]] == values["instances"]
        assert not instances["join"]
    if labels := found["labels"]:
        assert [labels["fg"], labels["bg"]] == values["thresholds of the script"][0]
        assert labels["refine"] == "crf"


@pytest.mark.parametrize("recipe", LOCALIZATIONS)
def test_localization(recipe: str) -> None:
    model = trainings(recipe)["model"]["model"]["init_args"]
    values = RELEASED[SCRIPTS[recipe]["model"]]["settings"]
    assert (model["weight_frg"], model["weight_bas"], model["weight_area"]) == (
        values["alpha"],
        1,
        values["beta"],
    )
    assert (model["top_n"] or 1) == values["topk"]
    if "threshold" in values:
        assert [model["box_threshold"]] == values["threshold"]
    data = trainings(recipe)["model"]["data"]
    masks = data["layout"] == "openimages"
    assert data["eval_size"] == (224 if masks else 256)
    assert (data["centre_crop"], data["ten_crop"]) == ((None, False) if masks else (224, True))


@pytest.mark.slow
def test_fit_reads_both_files_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = "wsol/ilsvrc_vgg16"
    with pytest.raises(SystemExit):
        command("fit", *configs(recipe), "--print_config")
    read, known = yaml.safe_load(capsys.readouterr().out), settings(recipe)
    for part, names in {
        "model": ("encoder", "weight_frg", "top_n", "optimizer"),
        "data": ("loading",),
    }.items():
        for name in names:
            assert read[part]["init_args"][name] == known[part]["init_args"][name]
    assert read["trainer"]["max_epochs"] == known["trainer"]["max_epochs"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_head_of_a_recipe(recipe: str) -> None:
    """What is expected, from where, with which data and by which command."""
    text = head(recipe)
    assert "xpected" in text or "no published figure" in text
    assert "\n# Data" in text
    assert "fbr-plugin pipeline" in text if recipe in PIPELINES else "fbr-plugin fit" in text
    assert math.prod(len(line) <= 120 for line in text.splitlines())
