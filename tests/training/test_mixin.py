"""FBRMixin: with baselines that can and cannot be edited, and what users get wrong."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from helpers.runs import Losses, fit
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from fbr_plugin import DenseView, FBRConfig, FBRMixin, capture, gate_scores
from fbr_plugin.baselines import AMN, AMNFBR, CAMFBR

SMALL = {"encoder": "small", "rates": (1, 2)}
CONFIG = FBRConfig(dim=8, num_clusters=3, bank_size=300, min_bank=8, num_negatives=16)
OFF = {"weight_fg": 0.0, "weight_bg": 0.0, "weight_seg": 0.0, "weight_sim": 0.0}


def amn(cls=AMNFBR, seed=3, **kwargs):
    """A small AMN with faster learning rates, so that training moves it."""
    pl.seed_everything(seed, verbose=False)
    return cls(5, optimizer={"lr": 1e-3, "head_lr": 1e-2}, **SMALL, **kwargs)


def test_weights_of_zero_are_the_bare_baseline_bit_for_bit(scenes, tmp_path):
    losses, models = [], []
    for build in (lambda: amn(AMN), lambda: amn(fbr=FBRConfig(**OFF))):
        recorder, start = Losses(), build()
        before = start.head.branches[0].weight.clone()
        fit(start, scenes(), tmp_path, callbacks=[recorder])
        assert not torch.equal(before, start.head.branches[0].weight)
        losses.append(recorder.values)
        models.append(start.state_dict())
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]
    for name, parameter in models[0].items():
        assert torch.equal(parameter, models[1][name]), name


def test_terms_change_the_baseline_and_are_logged(scenes, tmp_path):
    bare, plugged = amn(AMN), amn(fbr=CONFIG)
    trainer = fit(plugged, scenes(), tmp_path)
    fit(bare, scenes(), tmp_path)
    assert not torch.equal(bare.head.branches[0].weight, plugged.head.branches[0].weight)
    logged = trainer.callback_metrics
    names = "fg bg seg sim total num_queries bank_fill positive_similarity negative_similarity skipped"
    assert {f"fbr/{name}" for name in names.split()} <= set(logged)
    assert logged["fbr/bank_fill"] > 0
    assert plugged.fbr_terms.pseudo_labels.shape == (4, 8, 8)
    assert not any(value.requires_grad for value in plugged.fbr_terms)


@pytest.mark.parametrize("interval", [3, 5])
def test_resume_is_exact(interval, scenes, tmp_path):
    """Stopped in the middle of epoch 1 of 3, or at its boundary; with shuffling and AMN's dropout."""
    whole = amn(fbr=CONFIG)
    checkpoints = ModelCheckpoint(tmp_path, every_n_train_steps=interval, save_top_k=-1, filename="{step}")
    options = {"max_epochs": 3, "enable_checkpointing": True}
    fit(whole, scenes(), tmp_path, callbacks=[checkpoints], **options)
    resumed = amn(fbr=CONFIG, seed=99)
    fit(resumed, scenes(), tmp_path, tmp_path / f"step={interval}.ckpt", **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert any("banks.0.nrois" in name for name in whole.state_dict())


def test_resume_from_the_end_of_an_epoch_with_validation(scenes, tmp_path):
    whole = amn(fbr=CONFIG)
    options = {"max_epochs": 2, "enable_checkpointing": True, "limit_val_batches": 1}
    checkpoints = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    fit(whole, scenes(), tmp_path, callbacks=[checkpoints], **options)
    resumed = amn(fbr=CONFIG, seed=99)
    fit(resumed, scenes(), tmp_path, tmp_path / "epoch=0.ckpt", **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_checkpoint_loads_from_either_kind_of_settings(scenes, tmp_path):
    for number, fbr in enumerate([CONFIG, {"dim": 8, "bank_size": 300}]):
        model = amn(fbr=fbr)
        trainer = fit(model, scenes(), tmp_path, max_steps=1)
        path = tmp_path / f"{number}.ckpt"
        trainer.save_checkpoint(path)
        loaded = AMNFBR.load_from_checkpoint(path, weights_only=True)
        assert loaded.fbr.config == model.fbr.config
        assert loaded.hparams["fbr"]["dim"] == 8
        assert torch.equal(loaded.fbr.banks[0].nrois, model.fbr.banks[0].nrois)


def test_predicts_as_its_baseline(scenes):
    plugged, bare = amn(fbr=CONFIG).eval(), amn(AMN).eval()
    batch = next(iter(scenes().predict_dataloader()))
    with torch.no_grad():
        for a, b in zip(
            plugged.predict_step(batch, 0)["seed"], bare.predict_step(batch, 0)["seed"], strict=True
        ):
            assert torch.equal(a, b)


def test_default_settings_are_the_class_s(scenes):
    class Wider(CAMFBR):
        default_fbr = FBRConfig(dim=32)

    assert Wider(5, encoder="small").fbr.config.dim == 32
    assert Wider(5, encoder="small", fbr={"bank_size": 100}).fbr.config == FBRConfig(dim=32, bank_size=100)


def test_parameter_groups_give_fbr_the_new_layers_settings():
    model = amn(fbr=CONFIG)
    groups = model.parameter_groups()
    assert [group["lr"] for group in groups] == [1e-3, 1e-2, 1e-2]
    assert {id(p) for p in groups[-1]["params"]} == {id(p) for p in model.fbr.parameters()}
    assert len(amn(fbr=FBRConfig(**OFF)).parameter_groups()) == 2


class Foreign(pl.LightningModule):
    """Somebody's baseline, which knows nothing of FBR."""

    num_classes = 5
    feature_channels = 6

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU())
        self.classifier = nn.Conv2d(6, 5, 1)

    def training_step(self, batch, batch_idx):
        """Return a bare tensor."""
        logits = self.classifier(self.encoder(batch["image"])).mean((2, 3))
        return nn.functional.multilabel_soft_margin_loss(logits, batch["label"])

    def configure_optimizers(self):
        """All parameters in one group."""
        return torch.optim.SGD(self.parameters(), 0.1)


class ForeignFBR(FBRMixin, Foreign):
    """The same with FBR, without a change of it."""

    features = capture("encoder")
    default_fbr = CONFIG

    def dense_views(self, batch, outputs):
        """One view from what was captured."""
        return [DenseView(self.features, self.classifier(self.features), batch["label"])]


def test_a_module_that_cannot_be_edited(scenes, tmp_path):
    model = ForeignFBR()
    trainer = fit(model, scenes(), tmp_path)
    assert trainer.callback_metrics["fbr/total"] > 0
    assert model.fbr.step == 5
    assert not model.encoder._forward_hooks
    assert not model._captured
    with pytest.raises(RuntimeError, match=r"nothing was captured from 'encoder'.*dense_views"):
        _ = model.features


def test_hooks_are_removed_after_an_error(scenes):
    model = ForeignFBR()
    with pytest.raises(KeyError):
        model.training_step({"image": torch.zeros(1, 3, 8, 8)}, 0)
    assert not model.encoder._forward_hooks
    assert not model._captured


def test_capture_of_an_unknown_submodule():
    class Wrong(ForeignFBR):
        features = capture("backbone.layer4")

    with pytest.raises(
        AttributeError, match=r"capture\('backbone.layer4'\).*it has encoder, classifier, fbr"
    ):
        Wrong().training_step({}, 0)


def test_no_feature_channels():
    class Nothing(pl.LightningModule):
        pass

    class NothingFBR(FBRMixin, Nothing):
        pass

    with pytest.raises(AttributeError, match=r"NothingFBR must set feature_channels and num_classes"):
        NothingFBR()


def test_no_views():
    class Unwilling(FBRMixin, Foreign):
        pass

    batch = {"image": torch.zeros(2, 3, 8, 8), "label": torch.ones(2, 5)}
    with pytest.raises(TypeError, match=r"must return \{'loss': ..., 'views'.*got Tensor"):
        Unwilling().training_step(batch, 0)


def test_no_loss():
    class Manual(Foreign):
        def training_step(self, batch, batch_idx):
            return None

    class ManualFBR(FBRMixin, Manual):
        pass

    with pytest.raises(TypeError, match="training_step returned None"):
        ManualFBR().training_step({}, 0)


def test_parameters_outside_every_optimizer(scenes, tmp_path):
    class Selective(ForeignFBR):
        def configure_optimizers(self):
            return torch.optim.SGD(self.classifier.parameters(), 0.1)

    with pytest.raises(ValueError, match=r"FBR's parameters are in no optimizer.*parameter_groups"):
        fit(Selective(), scenes(), tmp_path)


def test_nan_features_skip_fbr_and_are_counted(scenes, tmp_path):
    class Unstable(ForeignFBR):
        def dense_views(self, batch, outputs):
            (view,) = super().dense_views(batch, outputs)
            if self.global_step == 2:
                view.features = torch.full_like(view.features, float("nan"))
            return [view]

    model = Unstable()
    with pytest.warns(UserWarning, match="NaN or infinite features"):
        trainer = fit(model, scenes(), tmp_path)
    assert trainer.callback_metrics["fbr/skipped"] == 1
    assert all(p.isfinite().all() for p in model.parameters())


def test_bf16(scenes, tmp_path):
    for precision in ("bf16-mixed", "bf16-true"):
        trainer = fit(amn(fbr=CONFIG), scenes(), tmp_path, max_steps=2, precision=precision)
        assert trainer.callback_metrics["fbr/total"].isfinite()


class Own(pl.LightningModule):
    """As the README has it: levels and maps on grids of their own, and a prediction that may be gated."""

    feature_channels, num_classes, level_channels, wants_views = 12, 5, 8, False

    def __init__(self, logits=False):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.classifier = nn.Conv2d(12, 5 + logits, 1)
        self.logits = logits

    def forward(self, image):
        fine = self.fine(image).relu()
        features = self.coarse(fine).relu()
        return fine, features, self.classifier(features)

    def training_step(self, batch, batch_idx):
        fine, features, scores = self(batch["image"])
        outputs = {"loss": scores.square().mean()}
        if self.wants_views:
            outputs["views"] = [DenseView(features, scores, batch["label"], levels=(fine,))]
        return outputs

    def predict_step(self, batch, batch_idx):
        fine, _, scores = self(batch["image"])
        return gate_scores(self, scores if self.logits else scores.relu(), [fine], self.logits)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class OwnFBR(FBRMixin, Own):
    pass


class Forgetful(OwnFBR):
    def predict_step(self, batch, batch_idx):
        return self(batch["image"])[2]


@pytest.mark.parametrize("logits", [False, True])
def test_scores_of_one_s_own_baseline_are_gated_where_it_has_a_gate(logits, scenes, tmp_path):
    bare, published = Own(logits), OwnFBR(logits, fbr=CONFIG)
    recommended = OwnFBR(logits, fbr=FBRConfig.recommended())
    for model in (published, recommended):
        model.load_state_dict(bare.state_dict(), strict=False)
    batch = {"image": torch.rand(2, 3, 32, 32), "label": torch.ones(2, 5)}
    expected = bare.predict_step(batch, 0)
    assert torch.equal(published.predict_step(batch, 0), expected)
    assert torch.equal(recommended.predict_step(batch, 0), expected)  # it has not seen any background yet
    gate = torch.rand(2, 5, 8, 8)
    recommended.class_gate = lambda levels, grid: gate if tuple(grid) == (8, 8) else None
    lowered = recommended.predict_step(batch, 0)
    if logits:
        torch.testing.assert_close(lowered[:, 1:].exp(), expected[:, 1:].exp() * gate)
        assert torch.equal(lowered[:, :1], expected[:, :1])
    else:
        torch.testing.assert_close(lowered, expected * gate)


def test_a_gate_that_nothing_asks_is_warned_of(scenes, tmp_path):
    module = scenes()
    for model_class, fbr, warned in (
        (OwnFBR, FBRConfig.recommended(), False),
        (Forgetful, CONFIG, False),
        (Forgetful, FBRConfig.recommended(), True),
    ):
        model = model_class(fbr=fbr)
        trainer = fit(model, module, tmp_path, max_steps=2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.predict(model, module)
        messages = [str(each.message) for each in caught]
        assert any("did not lower any scores" in message for message in messages) == warned


def test_the_mixin_comes_first():
    with pytest.raises(TypeError, match=r"the mixin comes first: class Wrong\(FBRMixin, Own\)"):

        class Wrong(Own, FBRMixin):
            pass
