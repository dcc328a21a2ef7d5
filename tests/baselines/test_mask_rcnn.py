"""The network of instances: its parity with torchvision's, its targets, its masks, and what it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.runs import fit
from helpers.tiny import write_photos
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from fbr_plugin.baselines import OptimizerConfig
from fbr_plugin.baselines.mask_rcnn.module import MaskRCNN, target_of
from fbr_plugin.baselines.mask_rcnn.network import boxes_of, paste
from fbr_plugin.callbacks.exact_resume import ExactResume
from fbr_plugin.data import Augmentation, FolderDataModule, Loading, SyntheticDataModule, SyntheticScenes
from fbr_plugin.instances import InstancePrediction

Scenes = Callable[..., SyntheticDataModule]
SMALL: dict[str, Any] = {"encoder": "small", "width": 32, "anchor_scale": 4, "rois_per_image": 64}
FAST = {"optimizer": OptimizerConfig("AdamW", lr=3e-3, head_lr=3e-3, warmup_steps=10)}


def build(num_classes: int = 5, **options: Any) -> MaskRCNN:
    """A small network."""
    pl.seed_everything(0, verbose=False)
    model = MaskRCNN(num_classes, **{**SMALL, **options})
    model.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return model


def random_batch(*counts: int) -> dict[str, Any]:
    """Images of noise, each with so many rectangles of random classes."""
    rng, instances = np.random.default_rng(0), []
    for count in counts:
        masks = torch.zeros(count, 64, 64, dtype=torch.bool)
        for mask in masks:
            y, x = rng.integers(0, 44, 2)
            height, width = rng.integers(10, 20, 2)
            mask[y : y + height, x : x + width] = True
        instances.append({"masks": masks, "labels": torch.from_numpy(rng.integers(1, 6, count))})
    image = torch.randn(len(counts), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return {"id": [f"image{i}" for i in range(len(counts))], "image": image, "instances": instances}


def as_torchvision(model: MaskRCNN, side: int) -> Any:
    """torchvision's own network with the same weights, which neither normalises nor resizes."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    settings: dict[str, Any] = {
        "min_size": side,
        "max_size": side,
        "image_mean": [0.0] * 3,
        "image_std": [1.0] * 3,
    }
    settings["_skip_resize"] = True  # in training, where it would draw the size at random
    other = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=6, **settings)
    theirs = other.state_dict()
    ours = {key.replace("head.pyramid", "backbone.fpn"): value for key, value in model.state_dict().items()}
    ours = {key.removeprefix("head."): value for key, value in ours.items()}
    # Pyramid and proposals have the same names; the encoder's are flat: layer1_0.conv1 for layer1.0.conv1.
    flat = {key: key.removeprefix("backbone.body.").replace(".", "_") for key in theirs}
    encoder = {
        key.removeprefix("encoder.model.").replace(".", "_"): value
        for key, value in model.state_dict().items()
        if key.startswith("encoder.")
    }
    found = {key: ours[key] if key in ours else encoder[flat[key]] for key in theirs}
    assert len(found) == len(model.state_dict())
    other.load_state_dict(found)
    return other


@pytest.mark.slow
def test_parity_with_torchvision() -> None:
    pl.seed_everything(0, verbose=False)
    model, batch = MaskRCNN(5, encoder="torchvision/resnet50", group_norm=False), random_batch(3, 0)
    other = as_torchvision(model, 64)
    targets = [target_of(each) for each in batch["instances"]]
    losses = []
    for network in (model, other.train()):
        pl.seed_everything(1, verbose=False)
        image = batch["image"] if network is model else list(batch["image"])
        result = network(image, targets)
        losses.append(result[1] if network is model else result)
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name], rtol=1e-5, atol=1e-6)
    other.transform.postprocess = lambda result, *sizes: result  # masks as they come from the network
    with torch.no_grad():
        found, _ = model.eval()(batch["image"])
        expected = other.eval()(list(batch["image"]))
    for one, two in zip(found, expected, strict=True):
        assert len(one["labels"]) == 100
        for name in ("boxes", "labels", "scores", "masks"):
            torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-4)


def test_true_masks_come_back_from_their_boxes() -> None:
    from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

    ious: dict[str, list[Tensor]] = {"ours": [], "torchvision": []}
    for scene in SyntheticScenes(num_images=40).scenes:
        masks = torch.from_numpy(scene.instances == np.unique(scene.instances)[1:, None, None])
        boxes = boxes_of(masks)
        small = project_masks_on_boxes(masks.float(), boxes, torch.arange(len(masks)), 28)[:, None]
        pasted = {
            "ours": paste(small, boxes, (64, 64), (64, 64)) >= 0.5,
            "torchvision": paste_masks_in_image(small, boxes, (64, 64))[:, 0] >= 0.5,
        }
        for name, each in pasted.items():
            shared, both = (each & masks).sum((1, 2)), (each | masks).sum((1, 2))
            ious[name].append(shared / both)
    assert torch.cat(ious["ours"]).mean() > 0.98
    assert torch.cat(ious["torchvision"]).mean() < 0.92


def test_a_mask_at_another_size() -> None:
    mask, box = torch.ones(1, 1, 4, 4), torch.tensor([[2.0, 4.0, 6.0, 8.0]])
    (same,) = paste(mask, box, (12, 16), (12, 16)) >= 0.5
    (large,) = paste(mask, box, (12, 16), (24, 32)) >= 0.5
    assert same.nonzero().amin(0).tolist() == [4, 2]
    assert same.nonzero().amax(0).tolist() == [8, 6]  # centres of pixels are whole numbers
    assert large.nonzero().amin(0).tolist() == [9, 5]
    assert large.nonzero().amax(0).tolist() == [16, 12]
    assert large.shape == (24, 32)


def test_targets() -> None:
    masks = torch.zeros(4, 10, 12, dtype=torch.bool)
    masks[0, 3, 4] = masks[1, 2:5, 6:12] = masks[3] = True
    instances = {"masks": masks, "labels": torch.tensor([1, 2, 3, 4])}
    target = target_of({**instances, "iscrowd": torch.tensor([0, 0, 0, 1]).bool()})
    assert target["boxes"].tolist() == [[4, 3, 5, 4], [6, 2, 12, 5]]
    assert target["labels"].tolist() == [1, 2]
    assert torch.equal(target["masks"].bool(), masks[:2])
    assert target_of(instances)["labels"].tolist() == [1, 2, 4]
    none = target_of({"masks": masks[:0], "labels": torch.zeros(0, dtype=torch.int64)})
    assert none["boxes"].shape == (0, 4)


@pytest.mark.parametrize("counts", [(2, 0), (0, 0)])
def test_images_without_instances_are_background(counts: tuple[int, ...]) -> None:
    model = build()
    loss = model.training_step(random_batch(*counts), 0)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    _, losses = model(torch.randn(1, 3, 64, 64), [target_of(random_batch(0)["instances"][0])])
    assert losses["loss_mask"] == losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0
    assert min(losses["loss_objectness"], losses["loss_classifier"]) > 0


@pytest.mark.parametrize(
    ("options", "strides"),
    [
        ({}, [4, 8]),
        ({"encoder": "resnet18"}, [4, 8, 16, 32, 64]),
        ({"encoder": "torchvision/squeezenet1_0", "output_stride": 16}, [4, 8, 16, 32]),
        ({"encoder": "resnet18", "output_stride": 16}, [4, 8, 16, 32]),
    ],
)
@torch.no_grad()
def test_every_encoder_has_a_pyramid(options: dict[str, Any], strides: list[int]) -> None:
    model, seen = build(**options).eval(), []
    model.head.rpn.anchor_generator.register_forward_hook(lambda module, args, output: seen.append(args[1]))
    model(torch.randn(1, 3, 70, 100))
    side = model.head.stride
    grids = [(-(-70 // side) * side // stride, -(-100 // side) * side // stride) for stride in strides]
    assert [tuple(level.shape[2:]) for level in seen[0]] == grids
    sizes = [round(anchors[1, 2].item() * 2) for anchors in model.head.rpn.anchor_generator.cell_anchors]
    assert sizes == [4 * stride for stride in strides]


@pytest.mark.parametrize("min_size", [None, 40, 400])
def test_instances_have_the_size_on_disk(min_size: int | None) -> None:
    model, batch, seen = build(min_size=min_size, max_size=200).eval(), random_batch(0, 0), []
    batch |= {"image": batch["image"][..., :50], "size": torch.tensor([[64, 50], [128, 100]])}
    model.encoder.register_forward_hook(lambda module, args, output: seen.append(args[0].shape[2:]))
    predicted = model.predict_step(batch, 0)
    assert isinstance(predicted, InstancePrediction)
    assert predicted.ids == ["image0", "image1"]
    expected = {None: (64, 56), 40: (56, 40), 400: (200, 160)}  # whole cells of stride 8
    assert [tuple(size) for size in seen] == [expected[min_size]]
    for found, size in zip(predicted.instances, [(64, 50), (128, 100)], strict=True):
        count = len(found["labels"])
        assert 0 < count <= 100
        assert found["masks"].shape == (count, *size)
        assert found["masks"].dtype == torch.bool
        assert found["masks"].flatten(1).any(1).all()
        assert found["labels"].min() >= 1
        assert found["scores"].shape == (count,)


def test_no_detection_and_few_detections() -> None:
    model, batch = build(score_threshold=0.99).eval(), random_batch(1)
    (found,) = model.detect(batch)
    assert found["masks"].shape == (0, 64, 64)
    model.scores.update([found], batch["instances"])
    assert model.compute_metrics()["ap_50"] == 0
    (found,) = build(max_detections=3, score_threshold=0.0).eval().detect(batch)
    assert len(found["labels"]) <= 3


@pytest.mark.slow
def test_learns_the_instances_of_a_few_scenes(tmp_path: Path) -> None:
    data = SyntheticDataModule(num_images=8, instances="all", loading=Loading(4, eval_batch_size=4))
    model = MaskRCNN(5, **SMALL, **FAST)
    (before,) = quiet_trainer(tmp_path).test(model, data, verbose=False)
    losses = []
    note = pl.callbacks.LambdaCallback(
        on_train_batch_end=lambda trainer, module, outputs, *rest: losses.append(outputs["loss"].item())
    )
    fit(model, data, tmp_path, max_steps=60, max_epochs=-1, callbacks=[note])
    (after,) = quiet_trainer(tmp_path).test(model, data, verbose=False)
    assert before["test/ap_50"] < 10
    assert after["test/ap_50"] > 50
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


@pytest.mark.slow
def test_checkpoints_resume_exactly(scenes: Scenes, tmp_path: Path) -> None:
    def train(ckpt_path: Path | None = None) -> MaskRCNN:
        pl.seed_everything(0, verbose=False)
        saver = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}")
        model, data = MaskRCNN(5, **SMALL, **FAST), scenes(num_images=12, instances="all")
        options = {"callbacks": [saver, ExactResume()], "max_epochs": 2}  # of 3 batches
        fit(model, data, tmp_path, ckpt_path, enable_checkpointing=True, **options)
        return model

    whole, resumed = train(), train(tmp_path / "step=2.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    again = MaskRCNN.load_from_checkpoint(tmp_path / "step=6.ckpt", weights_only=True).eval()
    batch = next(iter(scenes().val_dataloader()))
    for one, two in zip(again.detect(batch), whole.eval().detect(batch), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in ("masks", "labels", "scores"))


def test_bf16() -> None:
    model, batch = build(), random_batch(2, 1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.training_step(batch, 0)
        (found, _) = model.eval().detect(batch)
    loss.backward()
    assert loss.dtype == found["scores"].dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_learning_rates_and_what_is_frozen(scenes: Scenes, tmp_path: Path) -> None:
    model = build(optimizer={"head_lr": 0.04, "warmup_steps": 0}, frozen_levels=1, frozen_norm=True)
    groups = model.optimizer.build(model.parameter_groups(), 1)["optimizer"].param_groups
    assert [(group["initial_lr"], group["momentum"]) for group in groups] == [(0.02, 0.9), (0.04, 0.9)]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    norms = {name for name, module in model.encoder.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    del model.log_dict
    fit(model, scenes(instances="all"), tmp_path, max_steps=1)
    after = model.encoder.state_dict()
    kept = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {name for name in before if name.rpartition(".")[0] in norms or name == "stem.0.weight"} == kept
    assert not any(model.encoder.get_submodule(name).training for name in norms)


def test_mistakes_are_named(scenes: Scenes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"MaskRCNN trains on instances, .* as pseudo_instance_dir, or"):
        fit(MaskRCNN(5, **SMALL), scenes(), tmp_path)
    with pytest.raises(ValueError, match=r"no instances to score 'scene_000000' with: .* to 'eval'"):
        quiet_trainer(tmp_path).test(MaskRCNN(5, **SMALL), scenes(), verbose=False)
    with pytest.raises(
        ValueError, match=r"num_classes=3, the data has 5 foreground classes; build the model"
    ):
        fit(MaskRCNN(3, **SMALL), scenes(instances="all"), tmp_path)
    root = write_photos(tmp_path / "photos")
    data = FolderDataModule(root, augmentation=Augmentation(32), loading=Loading(2), instances="all")
    with pytest.raises(FileNotFoundError, match=r"SegmentationObject does not exist"):
        fit(MaskRCNN(2, **SMALL), data, tmp_path)
    for options, message in {
        ("width", 0): "width must be at least 1, got 0",
        ("rois_per_image", 0): "rois_per_image must be at least 1, got 0",
        ("min_size", 0): "min_size must be at least 1, got 0",
        ("max_detections", 0): "max_detections must be at least 1, got 0",
        ("anchor_scale", 0): "anchor_scale must be a finite number above 0, got 0",
        ("score_threshold", 1): r"score_threshold must lie in \[0, 1\), got 1",
        ("mask_threshold", -0.5): r"mask_threshold must lie in \[0, 1\), got -0.5",
        ("frozen_levels", 9): "frozen_levels must be 0 to 3, as SmallEncoder has 4 levels, got 9",
    }.items():
        with pytest.raises(ValueError, match=message):
            build(**dict([options]))


def quiet_trainer(folder: Path) -> pl.Trainer:
    """A trainer that tests and predicts without a word."""
    options = {"logger": False, "enable_progress_bar": False, "default_root_dir": folder}
    return pl.Trainer(accelerator="cpu", **options)
