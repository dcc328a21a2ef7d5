"""Every baseline and its FBR variant train, score, predict and reload."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.random_data import NUM_CLASSES, RandomData
from pytorch_lightning import Trainer
from torch import Tensor

from fbr_plugin import DenseView, FBRConfig, FBRMixin, recommended
from fbr_plugin import functional as fbr
from fbr_plugin.baselines import AMN, AMNFBR, BAS, BASFBR, CAM, CAMFBR, SeedTask
from fbr_plugin.metrics import SeedSweep

BASELINES = [(CAM, {}), (CAM, {"pooling": "tap"}), (AMN, {"rates": (1, 2)}), (BAS, {})]
FBR = {"enabled": True, "num_clusters": 2, "bank_size": 32, "min_bank": 2, "num_negatives": 4, "dim": 8}


def build(kind: type[SeedTask], **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(NUM_CLASSES, encoder="small", scales=(1.0, 0.5), **options)


def trainer(folder: Path, **options: Any) -> Trainer:
    options = {
        "max_epochs": 1,
        "logger": False,
        "accelerator": "cpu",
        "enable_checkpointing": False,
    } | options
    return Trainer(
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


@pytest.mark.parametrize(("kind", "options"), BASELINES)
def test_step_returns_loss_and_views(kind: type[SeedTask], options: dict[str, Any]) -> None:
    model, batch = build(kind, **options), RandomData().batch()
    assert model.training_step(batch, 0).keys() == {"loss"}

    model.wants_views = True
    outputs = model.training_step(batch, 0)
    (view,) = outputs["views"]
    assert isinstance(view, DenseView)
    height, width = (size // model.stride for size in batch["image"].shape[-2:])
    assert view.features.shape == (2, model.view_shape.channels, height, width)
    assert view.scores.shape[0] == 2
    assert view.scores.shape[1] in (NUM_CLASSES, NUM_CLASSES + 1)
    assert view.scores.shape[2:] == (height, width)
    assert view.labels is batch["label"]
    assert [level.shape[1] for level in view.levels] == list(model.encoder.channels)

    outputs["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vit_tiny_patch16_224", "convnext_atto"])
@pytest.mark.parametrize("kind", [CAM, AMN, CAMFBR, AMNFBR])
def test_on_patch_tokens_and_convnext(kind: type[SeedTask], encoder: str, tmp_path: Path) -> None:
    options: dict[str, Any] = recommended() if issubclass(kind, FBRMixin) else {}
    model = kind(NUM_CLASSES, encoder=encoder, scales=(1.0,), **options)
    gradients: dict[str, Tensor] = {}
    for name, weight in model.encoder.named_parameters():
        weight.register_post_accumulate_grad_hook(lambda own, name=name: gradients.update({name: own.grad}))
    run = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    run.fit(model, RandomData())
    assert run.global_step == 1
    assert gradients.keys() == dict(model.encoder.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert any(gradient.ne(0).any() for gradient in gradients.values())
    predictions = run.predict(model, RandomData()) or []
    assert [tuple(seed.shape[-2:]) for seeds in predictions for seed in seeds.seeds] == [(32, 40)] * 4
    if issubclass(kind, FBRMixin):
        assert model.gate.background.fill > 0


@pytest.mark.parametrize(
    ("encoder", "levels"), [("test_vit", 1), ("vit_tiny_patch16_224", 1), ("convnext_atto", 2), ("small", 4)]
)
def test_the_gate_reads_the_levels_up_to_stride_8_and_of_a_transformer_the_first(
    encoder: str, levels: int
) -> None:
    model = CAM(NUM_CLASSES, encoder=encoder)
    assert model.num_shallow == levels
    assert model.view_shape.level_channels == sum(model.encoder.channels[:levels])


@pytest.mark.parametrize(("kind", "options"), BASELINES)
def test_seeds(kind: type[SeedTask], options: dict[str, Any]) -> None:
    model, batch = build(kind, **options).eval(), RandomData().batch()
    with torch.no_grad():
        outputs = model.predict_step({key: batch[key] for key in ("id", "image", "label")}, 0)
    seed = torch.stack(list(outputs.seeds))
    assert outputs.ids == ["image0", "image1"]
    assert seed.shape[0] == 2
    assert seed.shape[-2:] == batch["image"].shape[-2:]
    assert 0 <= seed.min() <= seed.max() <= 1
    assert seed[:, -1].eq(0).all(), "class 3 is in no image"

    nothing = {**batch, "label": torch.zeros(2, NUM_CLASSES)}
    with torch.no_grad():
        for seed in model.predict_step(nothing, 0).seeds:
            assert seed[-NUM_CLASSES:].eq(0).all()
    assert model.training_step(nothing, 0)["loss"].isfinite()


@pytest.mark.parametrize("kind", [CAM, AMN, BAS])
def test_mirror_image_gives_the_mirrored_seed(kind: type[SeedTask]) -> None:
    model, batch = build(kind).eval(), RandomData("pseudo_label").batch()
    with torch.no_grad():
        seed = model.predict_step(batch, 0).seeds
        mirrored = model.predict_step({**batch, "image": batch["image"].flip(-1)}, 0).seeds
    for there, here in zip(mirrored, seed, strict=True):
        torch.testing.assert_close(there.flip(-1), here)


@pytest.mark.parametrize(("kind", "lr", "head_lr"), [(CAM, 0.1, 1.0), (AMN, 5e-6, 1e-4), (BAS, 0.005, 0.05)])
def test_groups_hold_each_parameter_once_with_its_learning_rate(
    kind: type[SeedTask], lr: float, head_lr: float
) -> None:
    model = build(kind)
    encoder, head = model.parameter_groups()
    assert (encoder["lr"], head["lr"]) == (lr, head_lr)
    grouped = [parameter for group in (encoder, head) for parameter in group["params"]]
    assert len(grouped) == len(list(model.parameters())) == len({id(parameter) for parameter in grouped})


@pytest.mark.parametrize("kind", [CAM, AMN, BAS, CAMFBR, AMNFBR, BASFBR])
def test_fit_test_predict_and_reload(kind: type[SeedTask], tmp_path: Path) -> None:
    options = {"fbr": FBRConfig(**FBR)} if issubclass(kind, FBRMixin) else {}
    model, data = build(kind, **options), RandomData()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run = trainer(tmp_path)
    run.fit(model, data)
    assert run.global_step == 2
    assert any((value != before[key]).any() for key, value in model.state_dict().items())
    assert run.callback_metrics["val/miou_oracle"] >= run.callback_metrics["val/miou_label_free"]
    run.save_checkpoint(tmp_path / "last.ckpt")

    scores = run.test(model, data, verbose=False)[0]
    names = {
        "miou_oracle",
        "threshold_oracle",
        "miou_label_free",
        "threshold_label_free",
        "recall",
        "precision",
    }
    assert scores.keys() == {f"test/{name}" for name in names | {"fp_cooccurring", "fp_other"}}
    assert scores["test/miou_oracle"] == model.scores.sweep.compute().oracle.miou

    again = kind.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    seeds, expected = run.predict(again, data), run.predict(model, data)
    assert seeds is not None
    assert expected is not None
    for seed, same in zip(seeds, expected, strict=True):
        torch.testing.assert_close(seed.seeds, same.seeds, rtol=0, atol=0)


def test_a_checkpoint_gives_its_encoder_to_the_next_baseline(tmp_path: Path) -> None:
    run, model = trainer(tmp_path, fast_dev_run=1), build(CAM)
    run.fit(model, RandomData())
    run.save_checkpoint(tmp_path / "cam.ckpt")
    successor = build(AMN, weights=str(tmp_path / "cam.ckpt"))
    for key, value in successor.encoder.state_dict().items():
        torch.testing.assert_close(value, model.encoder.state_dict()[key], rtol=0, atol=0)

    run.fit(successor, RandomData())
    run.save_checkpoint(tmp_path / "amn.ckpt")
    (tmp_path / "cam.ckpt").unlink()
    AMN.load_from_checkpoint(tmp_path / "amn.ckpt")


def test_scores_without_masks_or_stuff(tmp_path: Path) -> None:
    run, model = trainer(tmp_path), build(CAM)
    assert "test/fp_other" not in run.test(model, RandomData("stuff"), verbose=False)[0]
    with pytest.raises(ValueError, match="no mask to score 'image0'"):
        run.test(model, RandomData("mask"), verbose=False)
    assert len(run.predict(model, RandomData("mask", "stuff", "pseudo_label")) or []) == 4


def test_number_of_classes_must_be_the_datas(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_classes=5, the data has 3 .* num_classes=3"):
        trainer(tmp_path).fit(CAM(5, encoder="small"), RandomData())


@pytest.mark.parametrize(("kind", "options"), [(CAMFBR, {}), (AMNFBR, {"rates": (1, 2)}), (BASFBR, {})])
def test_predicted_and_scored_seeds_keep_the_scale(kind: type[SeedTask], options: dict[str, Any]) -> None:
    model, batch = build(kind, **options, **recommended()).eval(), RandomData().batch()
    with torch.no_grad():
        before = torch.stack([*model.predict_step(batch, 0).seeds])
        # As if ungated seeds were the square roots of gated ones.
        bins = torch.linspace(1e-4, 1, fbr.BINS)
        model.gate.distributions[0] = fbr.score_histogram(bins.sqrt())
        model.gate.distributions[1] = fbr.score_histogram(bins)
        model.gate.reclusters += 1
        after = torch.stack([*model.predict_step(batch, 0).seeds])
        model.validation_step(batch, 0)
    background = before.shape[1] - NUM_CLASSES
    assert torch.equal(after[:, :background], before[:, :background])
    torch.testing.assert_close(after[:, background:], before[:, background:].sqrt(), rtol=0, atol=0.02)
    sweep = model.scores.sweep.compute()
    expected = SeedSweep(NUM_CLASSES)
    with torch.no_grad():
        model.hparams["scales"] = model.hparams["val_scales"]
        expected.update(torch.stack([*model.predict_step(batch, 0).seeds])[:, background:], batch["mask"])
    assert sweep.miou == expected.compute().miou


def test_a_view_of_bas_has_the_maps_of_its_seeds() -> None:
    model, batch = build(BASFBR, seeds="both", **recommended()), RandomData().batch()
    (view,) = BAS.training_step(model, batch, 0)["views"]
    assert view.seed_scores.shape == (2, 2 * NUM_CLASSES, *view.scores.shape[-2:])


def test_the_scale_of_amn_is_that_of_its_seeds_with_labels() -> None:
    model, batch = build(AMN, rates=(1, 2)), RandomData().batch()
    model.wants_views = True
    (view,) = model.training_step(batch, 0)["views"]
    logits = torch.randn(2, 1 + NUM_CLASSES, *batch["image"].shape[-2:])
    assert torch.equal(view.to_seeds(logits), model.to_seeds(logits, batch)[:, 1:])
    assert view.to_seeds(view.scores).shape == (2, NUM_CLASSES, *view.scores.shape[-2:])


def test_rejects_an_unknown_grid_extent() -> None:
    with pytest.raises(ValueError, match="grid_extent must be one of 'own', 'image', 'cells', got 'grid'"):
        CAM(NUM_CLASSES, encoder="small", grid_extent="grid")  # type: ignore[arg-type]


def test_images_smaller_than_the_stride_are_named(tmp_path: Path) -> None:
    model = build(CAM)
    with pytest.raises(
        ValueError, match=r"^training images of 2x7 pixels are smaller than the encoder's stride, 4"
    ):
        model.on_train_batch_start({"image": torch.zeros(2, 3, 7, 2)}, 0)


def test_weights_of_other_layers_are_named() -> None:
    state = CAM(NUM_CLASSES + 1, encoder="small").state_dict()
    message = r"^the weights are not of CAM with these settings, encoder='small' among them: .*head\.weight"
    with pytest.raises(ValueError, match=message):
        build(CAM).load_state_dict(state)
