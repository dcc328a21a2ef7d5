"""Every recipe is built and makes one step of each stage, on a miniature of its data set.

Sizes, batches, steps and files of weights are changed, the ResNets have fewer blocks and channels, and the
CRF is replaced where its extra is not installed; nothing else. A recipe keeps its results where the one that
it extends does, so that only what differs is made again.
"""

import importlib.util
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers.recipes import LOCALIZATIONS, PIPELINES, configs, settings, training_parser, trainings
from helpers.released import NarrowResNet38
from helpers.runs import fit
from helpers.tiny import command, write_coco, write_photos, write_saliency
from helpers.wsol_layouts import write_cub, write_ilsvrc, write_openimages
from safetensors.torch import save_file
from torchvision.models.resnet import Bottleneck, ResNet

from fbr_plugin.baselines.encoders import ResNet101, build
from fbr_plugin.data import read_mask, write_mask

pytestmark = pytest.mark.slow

SIDE = 96
CRF = importlib.util.find_spec("pydensecrf") is not None
LAYOUTS = {"cub": write_cub, "ilsvrc": write_ilsvrc, "openimages": write_openimages}
STAGES = ["classifier", "labels", "baseline", "affinity", "irn", "instances", "masks", "segmentation"]
STAGES += ["predictions", "instance_network", "instance_predictions"]


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Make the encoders small, whose parameters take nearly all of the time."""
    blocks = (1, 1, 1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "resnet50", small_resnet50)
        patch.setattr(build, "ResNet38d", NarrowResNet38)
        patch.setattr(build, "ResNet101", partial(ResNet101, blocks, width=16))
        small = {"layers": blocks, "channels": (16, 32, 64, 128), "stem_width": 16}
        patch.setattr(timm, "create_model", partial(timm.create_model, **small))
        yield


def small_resnet50(weights: None = None) -> ResNet:
    """ResNet-50 of one block a stage, whose inner convolutions have a quarter of the channels."""
    return ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    """Random weights of ResNet-50 whose features are of a usual size with fixed statistics of the batches."""
    torch.manual_seed(0)
    state = small_resnet50().state_dict()
    small = {name: value / 10 for name, value in state.items() if name.endswith("bn3.weight")}
    save_file({**state, **small}, folder / "resnet50.safetensors")
    return folder / "resnet50.safetensors"


def shorter(recipe: str, weights: Path) -> list[object]:
    """Words that let a recipe's pipeline run in seconds."""
    found = settings(recipe)
    words: list[object] = ["--trainer.accelerator", "cpu", "--trainer.devices", 1, "--trainer.max_steps", 1]
    words += ["--trainer.enable_progress_bar", "false", "--data.loading.num_workers", 0]
    words += ["--data.augmentation.crop_size", SIDE, "--data.loading.batch_size", 2]
    for name in ("labels", "affinity", "masks"):
        if found[name] and found[name]["refine"] == "crf":
            words += [f"--{name}.refine", "auto"]
    for stage in trainings(recipe):
        section, model = found[stage], found[stage]["model"]["init_args"]
        network = f"--{stage}.model.init_args"
        known = model["encoder"] == "resnet50_irn"
        words += [f"{network}.pretrained", "false", f"{network}.weights", weights if known else "null"]
        if model.get("walk_canvas"):
            words += [f"{network}.walk_canvas", SIDE]
        if model.get("min_size"):
            words += [f"{network}.min_size", SIDE]
        if model.get("refine") and not CRF:
            words += [f"{network}.refine", "pamr"]
        if "crop_size" in section["data"].get("augmentation", {}):
            words += [f"--{stage}.data.augmentation.crop_size", SIDE]
        if "loading" in section["data"]:
            words += [f"--{stage}.data.loading.batch_size", 2]
        if "max_steps" in section["trainer"]:
            words += [f"--{stage}.trainer.max_steps", 1]
    return words


def write_voc(root: Path) -> None:
    """Write two photos with saliency maps and maps of objects."""
    write_saliency(write_photos(root, 20, 2))
    for path in (root / "SegmentationClass").iterdir():
        mask = read_mask(path, 20)
        write_mask(root / "SegmentationObject" / path.name, np.where(mask % 255 > 0, 1, mask))


@pytest.mark.parametrize("recipe", PIPELINES)
def test_every_stage_of_a_pipeline(recipe: str, folder: Path, weights: Path) -> None:
    name, extended = recipe.partition("/")[0], Path(str(configs(recipe)[1])).stem
    root = folder / name
    if not root.exists():
        write_coco(root, 2) if name == "coco" else write_voc(root)
    output = folder / f"{name}_{extended}"
    words = ["--output", output, "--data.root", root, *shorter(recipe, weights)]
    if settings(recipe)["data"]["init_args"]["saliency_dir"]:
        words += ["--data.saliency_dir", root / "saliency"]
    command("pipeline", *configs(recipe), *words)

    made, found = trainings(recipe), settings(recipe)
    given = {
        "masks": True,
        "labels": found["labels"] and "baseline" in made,
        "affinity": "irn" in made,
        "instances": found["instances"],
        "predictions": "segmentation" in made,
        "instance_predictions": "instance_network" in made,
    }
    expected = [stage for stage in STAGES if given.get(stage, stage in made)]
    if until := found["until"]:
        expected = expected[: expected.index(until) + 1]
    assert [*json.loads((output / "report.json").read_text())["stages"]] == expected
    for stage in made:
        checkpoint = output / stage / "model.ckpt"
        assert torch.load(checkpoint, mmap=True, weights_only=True)["global_step"] == 1
        record = json.loads((output / stage / "stage.json").read_text())["made_of"]["settings"]
        assert record["model"]["class_path"] == made[stage]["model"]["class_path"]


@pytest.mark.parametrize("recipe", LOCALIZATIONS)
def test_training_and_test_of_localization(recipe: str, folder: Path, tmp_path: Path) -> None:
    found = trainings(recipe)["model"]
    model, data = found["model"]["init_args"], found["data"]
    root = folder / data["layout"] / "root"
    if not root.exists():
        LAYOUTS[data["layout"]](root)
    words = [*configs(recipe), "--data.root", root, "--data.loading.num_workers", 0]
    words += ["--data.loading.batch_size", 2, "--data.loading.eval_batch_size", 2]
    words += ["--data.augmentation.resize", SIDE + 8, "--data.augmentation.crop_size", SIDE]
    words += ["--data.eval_size", SIDE + 8 if data["centre_crop"] else SIDE]
    words += ["--data.centre_crop", SIDE] if data["centre_crop"] else []
    words += ["--model.num_classes", 2, "--model.pretrained", "false", "--model.weights", "null"]
    words += ["--model.top_n", 2] if model["top_n"] else []
    read = training_parser()
    made = read.instantiate(read.parse_args([str(word) for word in words]))
    trainer = fit(made.model, made.data, tmp_path, max_steps=1)
    assert trainer.global_step == 1
    (tested,) = trainer.test(made.model, made.data, verbose=False)
    published = (
        ("piou", "pxap") if data["layout"] == "openimages" else ("gt_known_loc", "top1_loc", "top5_loc")
    )
    assert {f"test/{name}" for name in published} <= tested.keys()
