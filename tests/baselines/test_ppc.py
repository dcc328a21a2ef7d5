"""PPC and PPCFBR: the network, the two views, training, resuming, and what they need."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.random_data import NUM_CLASSES, RandomData
from helpers.runs import Losses, fit
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from fbr_plugin import FBRConfig, FBRMixin, GateConfig
from fbr_plugin.baselines import PPC, PPCFBR, ResNet38d
from fbr_plugin.baselines.encoders import build as encoders_build
from fbr_plugin.baselines.ppc.module import second_view_size
from fbr_plugin.baselines.ppc.network import PixelCorrelation
from fbr_plugin.callbacks.exact_resume import ExactResume
from fbr_plugin.callbacks.seed_writer import SeedWriter
from fbr_plugin.data import Loading, SyntheticDataModule

CONFIG = FBRConfig(dim=8, num_clusters=2, bank_size=100, min_bank=2, num_negatives=4, shared_bank=False)
OFF = {"weight_fg": 0.0, "weight_bg": 0.0, "weight_seg": 0.0, "weight_sim": 0.0}


def build(kind: type[PPC] = PPC, num_classes: int = NUM_CLASSES, seed: int = 0, **options: Any) -> Any:
    pl.seed_everything(seed, verbose=False)
    if issubclass(kind, FBRMixin):
        options = {"fbr": CONFIG, **options}
    return kind(num_classes, encoder="small", scales=(1.0, 0.5), **options)


def scenes(**options: Any) -> SyntheticDataModule:
    return SyntheticDataModule(num_images=12, size=32, loading=Loading(4, eval_batch_size=6), **options)


def saliency_batch() -> dict[str, Any]:
    batch = RandomData().batch()
    return {**batch, "saliency": (batch["mask"] > 0).float()}


def test_pixel_correlation_against_a_loop() -> None:
    module = PixelCorrelation((4, 5))
    maps, image = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 16, 16)
    levels = [torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(2, 5, 4, 4, requires_grad=True)]
    averaged = module(maps, image, levels)
    small = interpolate(module.levels[0](levels[0]).relu(), (4, 4), mode="bilinear", align_corners=True)
    seen = [
        interpolate(image, (4, 4), mode="bilinear", align_corners=True),
        small,
        module.levels[1](levels[1]).relu(),
    ]
    features = module.joint(torch.cat(seen, 1)).flatten(2)
    for i in range(2):
        for n in range(16):
            alike = [cosine_similarity(features[i, :, n], features[i, :, m], 0).relu() for m in range(16)]
            expected = sum(a * maps[i].flatten(1)[:, m] for m, a in enumerate(alike)) / sum(alike)
            torch.testing.assert_close(averaged[i].flatten(1)[:, n], expected, rtol=1e-4, atol=1e-5)
    averaged.sum().backward()
    assert all(level.grad is None for level in levels)
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("pooling", ["gap", "tap"])
@pytest.mark.parametrize("saliency", [False, True])
def test_network_removes_absent_classes(pooling: str, saliency: bool) -> None:
    model, batch = build(pooling=pooling, saliency=saliency).eval(), RandomData().batch()
    with torch.no_grad():
        maps = model(batch["image"], batch["label"])
    assert maps.logits.shape == (2, NUM_CLASSES)
    assert maps.cam.shape == (2, NUM_CLASSES + saliency, 8, 10)
    assert maps.refined.shape == (2, NUM_CLASSES + 1, 8, 10)
    assert maps.projection.shape == (2, 128, 8, 10)
    assert maps.refined[:, 3].eq(0).all()
    assert 0 <= maps.refined.min() <= maps.refined.max() <= 1
    if pooling == "gap":
        torch.testing.assert_close(maps.logits, maps.cam[:, -NUM_CLASSES:].mean((2, 3)))


@pytest.mark.parametrize(
    ("options", "second", "grid"),
    [
        ({}, (4, 5), (4, 5)),
        ({"pooling": "tap"}, (4, 5), (4, 5)),
        ({"view_size": 24}, (6, 6), (6, 6)),
        ({"contrast_grid": 7}, (4, 5), (7, 7)),
    ],
)
def test_step_hands_over_two_views(
    options: dict[str, Any], second: tuple[int, int], grid: tuple[int, int]
) -> None:
    model, batch = build(**options), RandomData().batch()
    assert model.training_step(batch, 0).keys() == {"loss"}
    model.wants_views = True
    outputs = model.training_step(batch, 0)
    assert len(outputs["views"]) == model.view_shape.num_views == 2
    for view, own in zip(outputs["views"], [(8, 10), second], strict=True):
        assert view.features.shape == (2, model.view_shape.channels, *own)
        assert view.features.requires_grad
        assert view.scores.shape == (2, NUM_CLASSES, *own)
        assert tuple(view.grid) == grid
        assert view.scores.min() >= 0
        assert view.seg_scores.shape == (2, NUM_CLASSES, *own)
        assert view.seg_scores.min() < 0
        assert [level.shape[1] for level in view.levels] == list(model.encoder.channels)
    outputs["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_size_of_the_second_view() -> None:
    assert [second_view_size(448, 8), second_view_size(448, 16), second_view_size(64, 4)] == [128, 128, 32]
    assert [second_view_size(32, 4), second_view_size(1, 8)] == [16, 1]


def test_whether_fbr_replaces_the_contrast_within_a_view() -> None:
    def logged(kind: type[PPC], **options: Any) -> dict[str, float]:
        model, values = build(kind, **options), {}
        model.log_dict = lambda terms, **_: values.update(terms)
        model.log = lambda name, value, **_: values.update({name: value})
        model.wants_views = True  # which changes nothing of the loss
        PPC.training_step(model, RandomData().batch(), 0)
        return values

    on, off = logged(PPC), logged(PPC, intra_view=False)
    assert on.keys() - off.keys() == {"train/intra_view"}
    assert on["train/intra_view"] > 0
    assert on["train/loss"] > off["train/loss"]
    gate = {"fbr": FBRConfig(enabled=False), "gate": GateConfig(enabled=True)}
    assert logged(PPCFBR) == off
    assert logged(PPCFBR, **gate).keys() == on.keys()
    assert logged(PPCFBR, intra_view=True) == on
    assert logged(PPCFBR, intra_view=False, **gate) == off


def test_weights_of_zero_are_ppc_without_its_intra_view_contrast(tmp_path: Path) -> None:
    losses, states = [], []
    for kind, options in ((PPC, {"intra_view": False}), (PPCFBR, {"fbr": FBRConfig(**OFF)})):
        recorder, model = Losses(), build(kind, 5, **options)
        fit(model, scenes(), tmp_path, callbacks=[recorder])
        losses.append(recorder.values)
        states.append(model.state_dict())
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PPC, PPCFBR])
def test_fit_test_predict_and_reload(kind: type[PPC], tmp_path: Path) -> None:
    model, data = build(kind, 5), scenes()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = fit(model, data, tmp_path, limit_val_batches=None)
    assert all((value != before[name]).any() for name, value in model.named_parameters() if "fbr" not in name)
    assert trainer.callback_metrics["val/miou_oracle"] > 0
    if kind is PPCFBR:
        assert trainer.callback_metrics["fbr/total"] > 0
        assert [bank.fill.item() > 0 for bank in model.fbr.banks] == [True, True]
        assert model.fbr_terms.pseudo_labels.shape == (4, 4, 4)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert trainer.test(model, data, verbose=False)[0]["test/miou_label_free"] > 0

    again = kind.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    writer = SeedWriter(tmp_path / "seeds")
    trainer.callbacks.append(writer)
    trainer.predict(again, data)
    for batch in data.predict_dataloader():
        with torch.no_grad():
            expected = model.eval().predict_step(batch, 0).seeds
        for name, label, seed in zip(batch["id"], batch["label"], expected, strict=True):
            written = np.load(tmp_path / "seeds" / f"{name}.npy", allow_pickle=True).item()
            assert list(written) == label.nonzero()[:, 0].tolist(), "SEAM's layout: a map for each class"
            for c, plane in written.items():
                assert torch.equal(torch.from_numpy(plane), seed[c])
                assert plane.min() == 0
                assert plane.max() in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PPC, PPCFBR])
@pytest.mark.parametrize("interval", [2, 3])
def test_resume_is_exact(kind: type[PPC], interval: int, tmp_path: Path) -> None:
    """Stopped in the middle of epoch 1 of 2, or at its boundary; with dropout and the contrast's draws."""
    options: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True}
    state = [] if kind is PPCFBR else [ExactResume()]
    checkpoints = ModelCheckpoint(tmp_path, every_n_train_steps=interval, save_top_k=-1, filename="{step}")
    whole, resumed = build(kind, 5), build(kind, 5, seed=99)
    fit(whole, scenes(), tmp_path, callbacks=[checkpoints, *state], **options)
    fit(resumed, scenes(), tmp_path, tmp_path / f"step={interval}.ckpt", callbacks=[*state], **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_draws_of_the_contrast_leave_the_global_stream() -> None:
    model = build()
    before = torch.get_rng_state()
    draws = [model.noise(5, view) for view in (0, 1, 0)]
    assert torch.equal(before, torch.get_rng_state())
    assert len({tuple(draw.tolist()) for draw in draws}) == 3
    again = build(seed=1)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.noise(5, 0), model.noise(5, 0))


def test_saliency_trains_a_background_map() -> None:
    model, batch = build(saliency=True, dropout=0.0), saliency_batch()
    logged: list[dict[str, Tensor]] = []
    model.log_dict = lambda values, **_: logged.append(values)
    optimizer = torch.optim.SGD(model.parameter_groups())
    for _ in range(8):
        optimizer.zero_grad()
        model.training_step(batch, 0)["loss"].backward()
        assert model.head.classifier.weight.grad[0].abs().max() > 0
        optimizer.step()
    assert logged[-1]["train/saliency"] < logged[0]["train/saliency"]
    assert logged[-1]["train/cls"] < logged[0]["train/cls"]
    with pytest.raises(ValueError, match=r"no 'saliency': give the data module their folder as saliency_dir"):
        model.training_step(RandomData().batch(), 0)


@pytest.mark.parametrize("kind", [PPC, PPCFBR])
@pytest.mark.parametrize("label", [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
def test_any_labels_train(kind: type[PPC], label: list[float]) -> None:
    """Background alone, one class, all classes."""
    model, batch = build(kind, saliency=True), saliency_batch()
    loss = model.training_step({**batch, "label": torch.tensor([label, label])}, 0)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_one_class_in_all(tmp_path: Path) -> None:
    model, batch = build(num_classes=1), RandomData().batch()
    assert model.training_step({**batch, "label": batch["label"][:, :1]}, 0)["loss"].isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PPC, PPCFBR])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bf16(kind: type[PPC], precision: Any, tmp_path: Path) -> None:
    recorder, model = Losses(), build(kind, 5)
    fit(model, scenes(), tmp_path, precision=precision, callbacks=[recorder])
    assert np.isfinite(recorder.values).all()
    assert len(recorder.values) == 3
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_mirror_image_gives_the_mirrored_seed() -> None:
    model, batch = build().eval(), RandomData().batch()
    with torch.no_grad():
        seeds = model.predict_step(batch, 0).seeds
        mirrored = model.predict_step({**batch, "image": batch["image"].flip(-1)}, 0).seeds
    for there, here in zip(mirrored, seeds, strict=True):
        torch.testing.assert_close(there.flip(-1), here, rtol=1e-4, atol=1e-4)


def test_groups_hold_trained_parameters_once() -> None:
    model = build(PPCFBR)
    groups = model.parameter_groups()
    assert [(group["lr"], group.get("weight_decay")) for group in groups] == [
        (0.02, 0.0),
        (0.01, None),
        (0.1, None),
    ]
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trained = (p for part in (model.encoder, model.head) for p in part.parameters() if p.requires_grad)
    assert sorted(grouped) == sorted(map(id, trained))
    assert {id(p) for p in groups[0]["params"]} == {
        id(p) for name, p in model.encoder.named_parameters() if name.endswith("bias")
    }


def test_encoders_of_other_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(ResNet38d):
        width = 2

    monkeypatch.setattr(encoders_build, "ResNet38d", Narrow)
    batch = RandomData().batch()
    for encoder, stride in (("resnet38d", 8), ("resnet18", 16)):
        model = PPCFBR(NUM_CLASSES, encoder=encoder, fbr=CONFIG)
        assert model.stride == stride
        loss = model.training_step(batch, 0)["loss"]
        loss.backward()
        assert loss.isfinite()
    assert isinstance(PPC(NUM_CLASSES).encoder, Narrow)


def test_frozen_parameters_are_in_no_group() -> None:
    model = build()
    model.encoder.stem.requires_grad_(False)
    grouped = {id(parameter) for group in model.parameter_groups() for parameter in group["params"]}
    assert grouped.isdisjoint(id(parameter) for parameter in model.encoder.stem.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling must be one of 'gap', 'tap', got 'max'"),
        ({"seed_maps": "cam"}, "seed_maps must be one of 'refined', 'softmax', got 'cam'"),
        ({"seed_maps": "softmax"}, "needs a map of the background, which saliency=True trains"),
        ({"contrast": {"background_score": 2.0}}, "background_score must lie in .0, 1., got 2.0"),
        ({"contrast": {"topk_divisor": 0}}, "topk_divisor must be at least 1, got 0"),
        ({"contrast": {"topk": 8}}, "ContrastConfig has no field 'topk'; did you mean .*topk_divisor"),
        ({"view_size": 0}, "view_size must be at least 1, got 0; None derives it"),
        ({"contrast_grid": -2}, "contrast_grid must be at least 1, got -2"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_an_encoder_of_two_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shallow(nn.Module):
        channels = (48, 96)
        strides = (4, 4)
        stride = 4

    monkeypatch.setattr("fbr_plugin.baselines.tasks.encoder_task.build_encoder", lambda *_: Shallow())
    with pytest.raises(ValueError, match="two levels before its last, 'small' has 1"):
        PPC(NUM_CLASSES, encoder="small")


def test_shared_projection(tmp_path: Path) -> None:
    """One weight in both places, trained by PPC's contrasts and FBR's losses, also after a reload."""
    own = replace(CONFIG, dim=128)
    model = build(PPCFBR, 5, fbr=own, shared_projection=True)
    assert model.fbr.heads.foreground is model.head.projection.weight
    trainer = fit(model, scenes(), tmp_path)
    (optimizer,) = trainer.optimizers
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(grouped) == len({*grouped})
    assert id(model.head.projection.weight) in grouped
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = PPCFBR.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert again.fbr.heads.foreground is again.head.projection.weight
    assert torch.equal(again.fbr.heads.foreground, model.fbr.heads.foreground)
    with pytest.raises(ValueError, match="shared_projection needs the fbr setting dim=128, got 8"):
        build(PPCFBR, shared_projection=True)
    off = FBRConfig(enabled=False)
    assert build(PPCFBR, fbr=off, shared_projection=True).fbr is None
    silent = build(PPCFBR, fbr=replace(own, **OFF), shared_projection=True)
    assert silent.head.projection.weight.requires_grad


def test_softmax_seeds() -> None:
    """Divided by their maximum, with the background among the classes of the softmax."""
    model, batch = build(saliency=True, seed_maps="softmax").eval(), saliency_batch()
    with torch.no_grad():
        maps = model(batch["image"], batch["label"])
        scores = model.seed_scores(batch["image"], batch["label"])
    assert torch.equal(scores, maps.cam.softmax(1)[:, 1:])
    model.wants_views = True
    for view in model.training_step(batch, 0)["views"]:
        assert torch.equal(view.seed_scores, view.seed_scores.clamp(0, 1))
        assert not torch.equal(view.seed_scores, view.scores)
    seeds = model.to_seeds(scores, batch)
    assert seeds.amax((2, 3)).tolist() == [[1, 1, 0], [1, 1, 0]]
    assert seeds[:, :2].min() > 0


def test_released_maps_keep_absent_classes() -> None:
    model, batch = build(saliency=True, released_maps=True).eval(), saliency_batch()
    with torch.no_grad():
        kept = model(batch["image"], batch["label"])
        everything = model(batch["image"], torch.ones_like(batch["label"]))
    assert torch.equal(kept.refined, everything.refined)
    assert kept.refined[:, 3].max() > 0
    assert model.training_step(batch, 0)["loss"].isfinite()
