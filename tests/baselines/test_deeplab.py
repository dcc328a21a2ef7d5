"""The segmentation network: its loss, its views at test, what it learns, and its masks on disk."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.random_data import NUM_CLASSES, RandomData
from helpers.runs import fit
from helpers.tiny import EXAMPLES, command, quick, write_photos, write_scene_labels
from PIL import Image
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fbr_plugin.baselines import OptimizerConfig
from fbr_plugin.baselines.deeplab import module as deeplab
from fbr_plugin.baselines.deeplab.module import DeepLabV2
from fbr_plugin.callbacks.exact_resume import ExactResume
from fbr_plugin.contract import MaskPrediction
from fbr_plugin.data import (
    Augmentation,
    FolderDataModule,
    Loading,
    SyntheticDataModule,
    denormalise,
    write_mask,
)
from fbr_plugin.data.readers.images import read_image
from fbr_plugin.data.readers.labels import read_ids
from fbr_plugin.metrics import SegmentationScore
from fbr_plugin.postprocess.evaluate import evaluate
from fbr_plugin.postprocess.refine import refine

Scenes = Callable[..., SyntheticDataModule]
FAST = {"optimizer": OptimizerConfig("AdamW", lr=5e-3, head_lr=5e-3, weight_decay=5e-4)}


def build(num_classes: int = NUM_CLASSES, **options: Any) -> DeepLabV2:
    """A small network."""
    pl.seed_everything(0, verbose=False)
    return DeepLabV2(num_classes, **{"encoder": "small", "rates": (1, 2), "scales": (1.0,), **options})


def naive_loss(logits: Tensor, target: Tensor, balanced: bool) -> float:
    """The mean cross-entropy over all pixels, or half of it over background and half over foreground."""
    losses: dict[bool, list[float]] = {False: [], True: []}
    for image in range(len(target)):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                label = int(target[image, y, x])
                if label != 255:
                    values = [math.exp(value) for value in logits[image, :, y, x].tolist()]
                    losses[label > 0].append(-math.log(values[label] / sum(values)))
    parts = list(losses.values()) if balanced else [losses[False] + losses[True]]
    return sum(sum(part) / len(part) for part in parts) / len(parts)


@pytest.mark.parametrize("balanced", [True, False])
def test_loss_against_a_loop_over_the_pixels(balanced: bool) -> None:
    model, batch = build(balanced=balanced).double(), RandomData().batch()
    batch["image"] = batch["image"][..., :30, :38].double()
    batch["pseudo_label"] = batch["pseudo_label"][..., :30, :38]
    grid = model(batch["image"])
    assert grid.shape == (2, 1 + NUM_CLASSES, 8, 10)
    logits = interpolate(grid, scale_factor=4, mode="bilinear")[..., :30, :38]  # the grid passes the edges
    loss = model.training_step(batch, 0)
    assert loss.item() == pytest.approx(naive_loss(logits, batch["pseudo_label"], balanced), rel=1e-5)


@pytest.mark.parametrize("balanced", [True, False])
def test_without_a_known_pixel_the_loss_is_zero(balanced: bool) -> None:
    model, batch = build(balanced=balanced), RandomData().batch()
    batch["pseudo_label"].fill_(255)
    loss = model.training_step(batch, 0)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and p.grad.eq(0).all() for p in model.parameters())


@pytest.mark.parametrize(("encoder", "stride"), [("small", 4), ("resnet18", 8)])
def test_shapes(encoder: str, stride: int) -> None:
    model = build(encoder=encoder).eval()
    image = torch.randn(2, 3, 35, 43)
    with torch.no_grad():
        assert model(image).shape == (2, 1 + NUM_CLASSES, -(-35 // stride), -(-43 // stride))
        probabilities = model.probabilities(image)
        batch = {"id": ["a", "b"], "image": image, "size": torch.tensor([[35, 43], [70, 86]])}
        first, second = model.predict_step(batch, 0).masks
    assert probabilities.shape == (2, 1 + NUM_CLASSES, 35, 43)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 35, 43))
    assert torch.equal(first, probabilities[0].argmax(0))
    assert second.shape == (70, 86)
    assert second.dtype == torch.int64


@torch.no_grad()
def test_scales_and_mirror_images_are_averaged() -> None:
    model, image = build(scales=(0.5, 1.0, 1.5)).eval(), RandomData().batch()["image"]
    views = []
    for size in ((16, 20), (32, 40), (48, 60)):
        scaled = interpolate(image, size, mode="bilinear")
        for mirror in (False, True):
            logits = model(scaled.flip(-1) if mirror else scaled)
            full = interpolate(interpolate(logits, size, mode="bilinear"), (32, 40), mode="bilinear")
            views.append(full.flip(-1) if mirror else full)
    torch.testing.assert_close(model.probabilities(image), torch.stack(views).mean(0).softmax(1))


def test_validation_takes_the_image_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, seen = build(scales=(0.5,), refine="pamr"), RandomData(), []
    score = SegmentationScore(NUM_CLASSES)
    monkeypatch.setattr(deeplab, "refine", None)
    model.register_forward_hook(lambda _module, args, output: seen.append((args[0], output)))
    (figures,) = quiet_trainer(tmp_path).validate(model, data, verbose=False)
    assert len(seen) == 4
    for (image, logits), batch in zip(seen, data.val_dataloader(), strict=True):
        assert torch.equal(image, batch["image"])
        score.update(interpolate(logits, image.shape[-2:], mode="bilinear").argmax(1), batch["mask"])
    assert figures["val/miou"] == score.compute().miou
    assert np.array_equal(model.scores.compute().iou, score.compute().iou, equal_nan=True)


@pytest.mark.parametrize("method", ["crf", "pamr"])
def test_refinement_gets_photos_and_probabilities(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, model = build().eval(), build(refine=method).eval()
    batch, calls = RandomData().batch(), []
    batch["photo"] = list(denormalise(batch["image"]))

    def reverse(image: Any, scores: Any, given: str, device: torch.device) -> Any:
        calls.append((image, scores, given, device))
        return np.ascontiguousarray(scores[::-1])

    monkeypatch.setattr(deeplab, "refine", reverse)
    with torch.no_grad():
        probabilities = plain.probabilities(batch["image"])
        masks = model.predict_step(batch, 0).masks
    assert len(calls) == len(masks) == 2
    for index, (image, scores, given, device) in enumerate(calls):
        assert image.dtype == np.uint8
        assert image is batch["photo"][index]
        assert scores.dtype == np.float32
        assert np.array_equal(scores, probabilities[index])
        assert (given, device) == (method, torch.device("cpu"))
        assert torch.equal(masks[index], probabilities[index].flip(0).argmax(0))


@pytest.mark.parametrize("max_size", [None, 20])
def test_refinement_takes_the_photo_as_read(
    max_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, shapes = write_photos(tmp_path / "photos"), []
    data, model = small_photos(root, max_size=max_size), build(2, refine="pamr").eval()
    expected = SegmentationScore(2)
    with torch.no_grad():
        for batch in data.test_dataloader():
            size = batch["size"][0].tolist()
            maps = model.probabilities(batch["image"])
            maps = maps if max_size is None else interpolate(maps, size, mode="bilinear")
            maps = torch.from_numpy(refine(batch["photo"][0], maps[0].numpy(), "pamr"))[None]
            small = batch["mask"].shape[-2:]
            maps = maps if max_size is None else interpolate(maps, small, mode="bilinear")
            expected.update(maps.argmax(1), batch["mask"])

    def record(photo: Any, scores: Any, *args: Any, **options: Any) -> Any:
        name = read_ids(root / "ImageSets" / "Segmentation" / "val.txt")[len(shapes) % 6]
        assert np.array_equal(photo, read_image(root / "JPEGImages" / f"{name}.jpg"))
        shapes.append(scores.shape[1:])
        return refine(photo, scores, *args, **options)

    monkeypatch.setattr(deeplab, "refine", record)
    predicted = quiet_trainer(tmp_path).predict(model, data) or []
    (figures,) = quiet_trainer(tmp_path).test(model, data, verbose=False)
    assert shapes == 2 * [(32, 36 + number) for number in range(6)]
    assert [tuple(batch.masks[0].shape) for batch in predicted] == shapes[:6]
    assert figures["test/miou"] == expected.compute().miou


def test_pamr_refines(scenes: Scenes, tmp_path: Path) -> None:
    masks = []
    for method in (None, "pamr"):
        predicted = quiet_trainer(tmp_path).predict(build(5, refine=method), scenes()) or []
        masks.append(torch.stack([mask for batch in predicted for mask in batch.masks]))
    assert (masks[0] != masks[1]).float().mean() > 0.01


def test_image_labels_are_not_needed(tmp_path: Path) -> None:
    model, trainer = build(), quiet_trainer(tmp_path)
    (figures,) = trainer.test(model, RandomData(), verbose=False)
    assert figures.keys() == {f"test/{name}" for name in ("miou", "recall", "precision", "accuracy")}
    assert trainer.test(model, RandomData("label"), verbose=False) == [figures]
    fit(model, RandomData("label"), tmp_path, max_steps=1, limit_val_batches=1)
    (first, *_) = trainer.predict(model, RandomData("label", "mask", "pseudo_label", "stuff")) or []
    assert isinstance(first, MaskPrediction)


@pytest.mark.slow
def test_learns_the_masks_of_a_few_scenes(scenes: Scenes, tmp_path: Path) -> None:
    data = scenes(num_images=4, loading=Loading(4, eval_batch_size=4))
    model, trainer = build(5, **FAST), quiet_trainer(tmp_path)
    (before,) = trainer.test(model, data, verbose=False)
    fit(model, data, tmp_path, max_steps=120, max_epochs=-1)
    (after,) = trainer.test(model, data, verbose=False)
    assert before["test/miou"] < 30
    assert after["test/miou"] > 70


@pytest.mark.slow
@pytest.mark.parametrize("averaging", [pl.Callback, partial(EMAWeightAveraging, decay=0.5)])
def test_checkpoints_resume_and_predict_exactly(
    averaging: Callable[[], pl.Callback], scenes: Scenes, tmp_path: Path
) -> None:
    def train(ckpt_path: Path | None = None) -> DeepLabV2:
        saver = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}")
        model, added = build(5, **FAST), [saver, ExactResume(), averaging()]
        data, options = scenes(num_images=12), {"callbacks": added, "max_epochs": 2}  # of 3 batches
        fit(model, data, tmp_path, ckpt_path, enable_checkpointing=True, **options)
        return model

    whole, resumed = train(), train(tmp_path / "step=2.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    again = DeepLabV2.load_from_checkpoint(tmp_path / "step=6.ckpt", weights_only=True)
    image = next(iter(scenes().val_dataloader()))["image"]
    with torch.no_grad():
        assert torch.equal(again.eval().probabilities(image), whole.eval().probabilities(image))


def test_bf16() -> None:
    model, batch = build(), RandomData().batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.training_step(batch, 0)
        probabilities = model.probabilities(batch["image"])
    loss.backward()
    assert loss.dtype == probabilities.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_learning_rates_and_momentum() -> None:
    model = build()
    groups = model.optimizer.build(model.parameter_groups(), 1)["optimizer"].param_groups
    assert [(group["initial_lr"], group["momentum"]) for group in groups] == [(2.5e-4, 0.9), (2.5e-3, 0.9)]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    other = build(optimizer={"name": "AdamW"})
    assert other.optimizer.build(other.parameter_groups(), 1)["optimizer"].defaults["weight_decay"] == 5e-4


def test_frozen_norm_stays_as_it_is(scenes: Scenes, tmp_path: Path) -> None:
    model = build(5, frozen_norm=True, **FAST)
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, scenes(), tmp_path, max_steps=2)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[0] for name in before if name not in changed} == norms
    assert model.training
    assert not any(model.get_submodule(name).training for name in norms)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="refine must be one of 'crf', 'deeplab_crf', 'pamr', None, got 'dcrf'"
    ):
        build(refine="dcrf")
    with pytest.raises(ValueError, match=r"DeepLabV2 trains on pseudo labels, .* as pseudo_label_dir"):
        build().training_step(RandomData("pseudo_label").batch(), 0)
    with pytest.raises(ValueError, match=r"batch of 'image0' has no 'photo', .* data module add a list"):
        build(refine="pamr").predict_step(RandomData().batch(), 0)
    with pytest.raises(ValueError, match="no mask to score 'image0' with"):
        quiet_trainer(tmp_path).test(build(), RandomData("mask"), verbose=False)
    photos = write_photos(tmp_path / "photos")
    for path in (photos / "SegmentationClass").iterdir():
        write_mask(tmp_path / "labels" / path.name, np.full(Image.open(path).size[::-1], 3))
    data = small_photos(photos, pseudo_label_dir=tmp_path / "labels")
    with pytest.raises(ValueError, match=r"2007_\d+.png holds the value 3, but a mask of 2 classes holds"):
        fit(build(2), data, tmp_path)


@pytest.mark.slow
def test_command_line_from_labels_to_scored_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    truth = write_scene_labels(tmp_path / "truth", 8, 32)
    (tmp_path / "list.txt").write_text("\n".join(path.stem for path in truth.iterdir()))
    words = ["--config", EXAMPLES / "scenes_deeplab.yaml", "--data.num_images", 8, "--data.size", 32]
    words += ["--data.val_images", 0, "--data.loading.batch_size", 4, "--data.pseudo_label_dir", truth]
    command("fit", *words, *quick(4), "--trainer.default_root_dir", "run")
    (checkpoint,) = Path("run").rglob("epoch*.ckpt")
    words += ["--ckpt_path", checkpoint, "--model.scales=[1.0, 1.5]", "--model.refine", "pamr", *quick(1)]
    command("test", *words, "--trainer.default_root_dir", "test")
    command("predict", *words, "--output_dir", "masks")
    header, row = Path("test/metrics.csv").read_text().splitlines()
    tested = dict(zip(header.split(","), row.split(","), strict=True))
    scores = evaluate(tmp_path / "masks", truth, tmp_path / "list.txt", num_classes=5)
    assert scores.result.miou == pytest.approx(float(tested["test/miou"]), abs=1e-9)
    assert {Image.open(path).mode for path in Path("masks").iterdir()} == {"P"}
    with pytest.raises(ValueError, match="DeepLabV2 predicts no seeds: leave out format and thresh"):
        command("predict", *words, "--output_dir", "other", "--thresholds", 0.3, 0.1)


def small_photos(root: Path, **options: Any) -> FolderDataModule:
    """Photos in crops of 32, two a batch."""
    return FolderDataModule(root, augmentation=Augmentation(32), loading=Loading(2), **options)


def quiet_trainer(folder: Path) -> pl.Trainer:
    """A trainer that tests and predicts without a word."""
    options = {"logger": False, "enable_progress_bar": False, "default_root_dir": folder}
    return pl.Trainer(accelerator="cpu", **options)
