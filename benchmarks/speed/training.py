"""Training steps: the released loops, called as they are, beside Lightning's Trainer with our networks."""

import importlib
import json
import logging
import runpy
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn

from benchmarks.recipe_cost.networks import build, images
from benchmarks.recipe_cost.sheet import settings
from benchmarks.speed.loop import Loop
from benchmarks.speed.timing import Case, same_loss, seed_all
from fbr_plugin.baselines import PPC
from fbr_plugin.baselines.encoders import ResNet38d
from fbr_plugin.baselines.released.convert import convert

VOC_CLASSES, CUB_CLASSES = 20, 200
Replaced = dict[tuple[Any, str], Any]  # attributes of released modules, and what takes their place


def network(recipe: str, stage: str, num_classes: int = VOC_CLASSES, **changed: Any) -> LightningModule:
    """A recipe's network with random weights; the published losses of FBR stay as the recipe has them."""
    found = settings(recipe)
    model = found["model"] if stage == "model" else found[stage]["model"]
    arguments = {**model["init_args"], "num_classes": num_classes, **changed}
    built: LightningModule = build(json.dumps({**model, "init_args": arguments}))
    return built


def take_weights(model: nn.Module, kind: str, theirs: nn.Module) -> None:
    """Give our network the weights of a released one; what that lacks keeps its own."""
    found = convert(kind, dict(theirs.state_dict()))
    model.load_state_dict({name: found.state[name] for name in found.matched}, strict=False)


def quiet_trainer(**options: Any) -> Trainer:
    """A trainer on the CPU that writes and shows nothing."""
    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return Trainer(accelerator="cpu", **quiet, **options)


def our_loop(model: LightningModule, batch: Mapping[str, Any]) -> Loop:
    """The Trainer's loop over one batch."""

    def run(batches: Loop) -> None:
        seed_all()
        quiet_trainer(max_steps=10**6).fit(model, batches)

    return Loop(run, batch)


def released_loop(run: Callable[[Loop], object], batch: Any, patches: Replaced) -> Loop:
    """A released loop over one batch. What is replaced until it asks for the batch: data sets and loaders."""
    with ExitStack() as stack:
        for (owner, name), value in patches.items():
            stack.enter_context(patch.object(owner, name, value))

        def serving(batches: Loop) -> None:
            stack.enter_context(patch.object(torch.utils.data, "DataLoader", lambda *_, **__: batches))
            run(batches)

        return Loop(serving, batch)


def script(_: Loop) -> None:
    """Run the released script that the arguments name."""
    runpy.run_path(sys.argv[0], run_name="__main__")


def amn(size: int, number: int, fbr: bool = False, theirs: bool = True) -> Case:
    """AMN, with the published losses of FBR or without."""
    ours = network("voc/amn_fbr" if fbr else "voc/amn", "baseline")
    batch = images(number, (size, size), VOC_CLASSES, 2, "cpu")
    loop = None
    if theirs:
        module: Any = importlib.import_module("net.resnet50_amn")
        step: Any = importlib.import_module("step.train_amn")
        net = module.Net()
        take_weights(ours, "fbr_amn" if fbr else "amn", net)
        given = dict.fromkeys(("train_list", "infer_list", "ir_label_out_dir", "voc12_root", "num_workers"))
        given |= {"amn_network": "net.resnet50_amn", "amn_crop_size": size, "amn_batch_size": number}
        args = SimpleNamespace(**given, amn_num_epoches=1, eps=0.4)
        fed = {"img": batch["image"], "label": batch["pseudo_label"], "label_cls": batch["label"]}

        def run(batches: Loop) -> None:
            step.DataLoader = lambda *_, **__: batches
            step.run(args)

        replaced: Replaced = {
            (module, "Net"): lambda: net,
            (sys.modules["voc12.dataloader"], "VOC12SegmentationDataset"): lambda *_, **__: None,
        }
        loop = released_loop(run, fed, replaced)
    text = f"ResNet-50, {number} crops of {size}x{size}"
    # The release does not restrict FBR's pseudo labels, so that its queries are others.
    return Case(our_loop(ours, batch), loop, same_loss(0.1 if fbr else 1e-3), text)


def ppc(size: int, number: int, theirs: bool = True) -> Case:
    """PPC on SEAM, without saliency maps."""
    optimizer = settings("voc/ppc")["classifier"]["model"]["init_args"]["optimizer"]
    views: dict[str, Any] = {"view_size": 128, "contrast_grid": 16}
    ours = PPC(VOC_CLASSES, optimizer=optimizer, encoder="resnet38d", released_maps=True, **views)
    ours.encoder = ResNet38d(frozen=True)  # as with ImageNet's weights
    batch = images(number, (size, size), VOC_CLASSES, 2, "cpu")
    loop = None
    if theirs:
        module, data = (importlib.import_module(name) for name in ("network.resnet38_contrast", "voc12.data"))
        net = module.Net()
        take_weights(ours, "ppc_seam", net)
        words = ("--weights", "none", "--batch_size", str(number), "--crop_size", str(size))
        replaced: Replaced = {
            (module, "Net"): lambda: net,
            (data, "VOC12ClsDataset"): lambda *_, **__: range(10582),
            (torch, "load"): lambda *_, **__: {},  # ImageNet's weights
            (sys, "argv"): ["contrast_train.py", *words],
        }
        fed = (batch["id"], batch["image"], batch["label"])
        loop = released_loop(
            lambda _: runpy.run_path("contrast_train.py", run_name="__main__"), fed, replaced
        )
    text = f"ResNet-38d, {number} crops of {size}x{size} and 128x128"
    return Case(our_loop(ours, batch), loop, same_loss(0.05), text)


def ppc_fbr(size: int, number: int, theirs: bool = True) -> Case:
    """PPC on EPS with the published losses of FBR."""
    ours = network("voc/ppc_fbr", "classifier", view_size=128, contrast_grid=16)
    ours.encoder = ResNet38d(frozen=True)
    batch = images(number, (size, size), VOC_CLASSES, 2, "cpu")
    batch["image"][..., size // 2 :] = 0  # becomes background, without which the released bank fails
    loop = None
    if theirs:
        network_, train, optimizers = (
            importlib.import_module(name)
            for name in ("network.resnet38_contrast", "module.train", "module.optimizer")
        )
        net = network_.Net()
        take_weights(ours, "fbr_ppc", net)
        args = SimpleNamespace(lr=0.01, wt_dec=5e-4, tau=0.5, alpha=0.5, iter_size=1, max_iters=10**6)
        args.batch_size = number
        fed = (batch["id"], batch["image"], batch["saliency"][:, None], batch["label"])

        def run(batches: Loop) -> None:
            optimizer = optimizers.get_optimizer(args, net, 10**6)
            train.train_contrast(batches, nn.DataParallel(net).train(), optimizer, 10**6, args)

        loop = released_loop(run, fed, {})
    text = f"ResNet-38d, {number} crops of {size}x{size} and 128x128, saliency maps"
    return Case(our_loop(ours, batch), loop, same_loss(0.1), text)


def bas(size: int, number: int, theirs: bool = True) -> Case:
    """BAS for localization."""
    arguments = {"final_relu": True, "weight_area": 0.7}  # as in the code of the CVPR paper
    ours = network("wsol/cub_vgg16", "model", CUB_CLASSES, **arguments)
    batch = images(number, (size, size), CUB_CLASSES, 1, "cpu")
    classes = torch.arange(number)
    batch["label"] = torch.eye(CUB_CLASSES)[:number]
    loop = None
    if theirs:
        vgg, data = (importlib.import_module(name) for name in ("Model.vgg", "DataLoader"))
        net = vgg.Model(SimpleNamespace(num_classes=CUB_CLASSES))
        for weight in net.parameters():  # without this gain, nothing of the image reaches the classifier
            weight.data.mul_(6**0.5 if weight.ndim > 1 else 1)
        take_weights(ours, "bas_vgg16", net)
        replaced: Replaced = {
            (vgg, "model"): lambda *_, **__: net,
            (data, "ImageDataset"): lambda *_: None,
            (sys, "argv"): ["train.py"],
        }
        fed = ([""] * number, batch["image"], classes)
        loop = released_loop(script, fed, replaced)
    return Case(our_loop(ours, batch), loop, same_loss(1e-3), f"VGG-16, {number} crops of {size}x{size}")
