"""FBRMixin: with baselines that can and cannot be edited, and what users get wrong."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from helpers.runs import fit
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from fbr_plugin import Baseline, DenseView, FBRConfig, FBRMixin, ViewShape, capture, recommended
from fbr_plugin.baselines import AMN, AMNFBR, CAMFBR, PPCFBR
from fbr_plugin.distributed import BatchShare

SMALL = {"encoder": "small", "rates": (1, 2)}
CONFIG = FBRConfig(dim=8, num_clusters=3, bank_size=300, min_bank=8, num_negatives=16)
WIDE = FBRConfig(dim=32)


def amn(cls=AMNFBR, seed=3, **kwargs):
    """A small AMN with faster learning rates, so that training moves it."""
    pl.seed_everything(seed, verbose=False)
    return cls(5, optimizer={"lr": 1e-3, "head_lr": 1e-2}, **SMALL, **kwargs)


def test_terms_change_the_baseline_and_are_logged(scenes, tmp_path):
    bare, plugged = amn(AMN), amn(fbr=CONFIG)
    trainer = fit(plugged, scenes(), tmp_path)
    fit(bare, scenes(), tmp_path)
    assert not torch.equal(bare.head.branches[0].weight, plugged.head.branches[0].weight)
    logged = trainer.callback_metrics
    names = "fg bg seg sim total num_queries bank_fill positive_similarity negative_similarity"
    assert {f"fbr/{name}" for name in names.split()} == {name for name in logged if name.startswith("fbr")}
    assert {*trainer.progress_bar_metrics} == {"train/loss", "fbr/total"}
    assert logged["fbr/bank_fill"] > 0
    assert plugged.fbr_terms.pseudo_labels.shape == (4, 8, 8)
    assert not any(value.requires_grad for value in plugged.fbr_terms)


@pytest.mark.slow
def test_compiled_parts_train_as_others(scenes, tmp_path):
    losses = FBRConfig(dim=8, num_clusters=2, kmeans_iterations=1, bank_size=60, min_bank=8)
    gate = {"enabled": True, "recluster_every": 2, "num_clusters": 4}
    models = [amn(fbr=losses, gate=gate) for _ in range(2)]
    for part in (models[1].fbr, models[1].gate):
        part.compile(backend="eager", fullgraph=True)
    for model in models:
        pl.seed_everything(3, verbose=False)
        fit(model, scenes(), tmp_path, limit_train_batches=4)
    states = [model.state_dict() for model in models]
    assert models[1].gate.reclusters == 2
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name)


@pytest.mark.slow
def test_resume_at_the_boundary_of_an_epoch_is_exact(scenes, tmp_path):
    """Other tests of every baseline resume in the middle of an epoch."""
    whole = amn(fbr=CONFIG)
    checkpoints = ModelCheckpoint(tmp_path, every_n_train_steps=5, save_top_k=-1, filename="{step}")
    options = {"max_epochs": 3, "enable_checkpointing": True}
    fit(whole, scenes(), tmp_path, callbacks=[checkpoints], **options)
    resumed = amn(fbr=CONFIG, seed=99)
    fit(resumed, scenes(), tmp_path, tmp_path / "step=5.ckpt", **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert any("banks.0.nrois" in name for name in whole.state_dict())


@pytest.mark.slow
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
    for number, fbr in enumerate([CONFIG, {"preset": "amn", "dim": 8, "bank_size": 300}]):
        model = amn(fbr=fbr, gate={"enabled": True}, global_batch=number == 1)
        trainer = fit(model, scenes(), tmp_path, max_steps=1)
        path = tmp_path / f"{number}.ckpt"
        trainer.save_checkpoint(path)
        loaded = AMNFBR.load_from_checkpoint(path, weights_only=True)
        assert loaded.fbr.config == model.fbr.config
        assert loaded.hparams["fbr"]["dim"] == 8
        assert loaded.fbr.share == loaded.gate.share == BatchShare(number == 1)
        assert torch.equal(loaded.fbr.banks[0].nrois, model.fbr.banks[0].nrois)


def test_predicts_as_its_baseline(scenes):
    plugged, bare = amn(fbr=CONFIG).eval(), amn(AMN).eval()
    batch = next(iter(scenes().predict_dataloader()))
    with torch.no_grad():
        for a, b in zip(plugged.predict_step(batch, 0).seeds, bare.predict_step(batch, 0).seeds, strict=True):
            assert torch.equal(a, b)


def test_a_class_s_preset_is_the_default_of_its_argument():
    class Wider(CAMFBR):
        def __init__(self, *args, fbr=WIDE, **kwargs):
            super().__init__(*args, fbr=fbr, **kwargs)

    assert Wider(5, encoder="small").fbr.config.dim == 32
    assert Wider(5, encoder="small", fbr={"bank_size": 100}).fbr.config == FBRConfig(dim=32, bank_size=100)
    assert PPCFBR(5, encoder="small", fbr={"enabled": True}).fbr.config == FBRConfig.ppc()
    with pytest.raises(ValueError, match=r"FBRConfig has no field 'banksize'; did you mean bank_size"):
        Wider(5, encoder="small", fbr={"banksize": 100})


def test_what_is_off_allocates_and_logs_nothing(scenes, tmp_path):
    off = {"enabled": False}
    for fbr, own, parts in (
        ("recommended", off, set()),
        (CONFIG, None, {"fbr"}),
        ("recommended", None, {"gate"}),
        (CONFIG, {"enabled": True}, {"fbr", "gate"}),
    ):
        model = amn(fbr=fbr, gate=own)
        held = {name.split(".")[0] for name in model.state_dict()} & {"fbr", "gate"}
        assert held == parts
        trainer = fit(model, scenes(), tmp_path, max_steps=1)
        assert {name.split("/")[0] for name in trainer.callback_metrics} - {"train"} == parts
        assert (model.fbr_terms is not None, model.gate_terms is not None) == (
            "fbr" in parts,
            "gate" in parts,
        )


def optimizer_of(model, scenes, tmp_path):
    """The optimizer of a run of one step."""
    return fit(model, scenes(), tmp_path, max_steps=1).optimizers[0]


def test_fbr_s_parameters_join_the_last_group(scenes, tmp_path):
    model = amn(fbr=CONFIG)
    groups = optimizer_of(model, scenes, tmp_path).param_groups
    assert len(groups) == 2
    own = {id(parameter) for parameter in model.fbr.parameters()}
    assert own <= {id(parameter) for parameter in groups[-1]["params"]}
    assert not own & {id(parameter) for parameter in groups[0]["params"]}
    assert all(model.trainer.optimizers[0].state[parameter] for parameter in model.fbr.parameters())


class Foreign(pl.LightningModule):
    """Somebody's baseline, which knows nothing of FBR."""

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

    view_shape = ViewShape(6, 5)
    features = capture("encoder")

    def __init__(self, fbr=CONFIG, **kwargs):
        super().__init__(fbr=fbr, **kwargs)

    def dense_views(self, batch, outputs):
        """One view from what was captured."""
        return [DenseView(self.features, self.classifier(self.features), batch["label"])]


def test_a_module_that_cannot_be_edited(scenes, tmp_path):
    model = ForeignFBR()
    trainer = fit(model, scenes(), tmp_path)
    assert trainer.callback_metrics["fbr/total"] > 0
    assert model.fbr.step == 5
    assert not model.encoder._forward_hooks
    assert not model.captures.kept


def test_no_view_shape():
    class NothingFBR(FBRMixin, pl.LightningModule):
        pass

    with pytest.raises(AttributeError, match=r"NothingFBR needs the sizes.*view_shape = ViewShape\(channels"):
        NothingFBR()


def test_no_views():
    class Unwilling(FBRMixin, Foreign):
        view_shape = ViewShape(6, 5)

    batch = {"image": torch.zeros(2, 3, 8, 8), "label": torch.ones(2, 5)}
    with pytest.raises(TypeError, match=r"must return \{'loss': ..., 'views'.*got Tensor"):
        Unwilling().training_step(batch, 0)


def test_no_loss():
    class Manual(Foreign):
        def training_step(self, batch, batch_idx):
            return None

    class ManualFBR(FBRMixin, Manual):
        view_shape = ViewShape(6, 5)

    with pytest.raises(TypeError, match="training_step returned None"):
        ManualFBR().training_step({}, 0)


class PolyOptimizer(torch.optim.SGD):
    """As the field's code has it: a list of an entry for each group, and a counter outside the state."""

    def __init__(self, groups, lr, max_step):
        super().__init__(groups, lr)
        self.global_step, self.max_step = 0, max_step
        self.initial_lr = [group["lr"] for group in self.param_groups]

    def step(self, closure=None):
        for i, group in enumerate(self.param_groups):
            group["lr"] = self.initial_lr[i] * (1 - self.global_step / self.max_step) ** 0.9
        self.global_step += 1
        return super().step(closure)


class Selective(Foreign):
    """Lists its parameters."""

    def configure_optimizers(self):
        groups = [
            {"params": self.encoder.parameters()},
            {"params": [*self.classifier.parameters()], "lr": 0.2},
        ]
        return PolyOptimizer(groups, 0.1, 10)


class SelectiveFBR(ForeignFBR, Selective):
    pass


def test_fbr_trains_in_an_optimizer_that_lists_parameters(scenes, tmp_path):
    model = SelectiveFBR()
    before = model.fbr.heads.foreground.clone()
    fit(model, scenes(), tmp_path)
    assert not torch.equal(model.fbr.heads.foreground, before)


def test_the_counter_of_an_optimizer_is_resumed(scenes, tmp_path):
    def train(checkpoint=None):
        pl.seed_everything(0, verbose=False)
        saver = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1, filename="{step}")
        model = SelectiveFBR()
        options = {"callbacks": [saver], "enable_checkpointing": True, "max_epochs": 2}
        return model, fit(model, scenes(), tmp_path, checkpoint, **options).optimizers[0]

    (whole, optimizer), (resumed, other) = train(), train(tmp_path / "step=3.ckpt")
    assert optimizer.global_step == other.global_step == 10
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("form", [lambda o: [o], lambda o: ([o], []), lambda o: {"optimizer": o}])
def test_every_form_of_configured_optimizers(form, scenes, tmp_path):
    class Formed(Selective):
        def configure_optimizers(self):
            return form(super().configure_optimizers())

    class FormedFBR(ForeignFBR, Formed):
        pass

    model = FormedFBR()
    groups = optimizer_of(model, scenes, tmp_path).param_groups
    assert {id(p) for p in model.fbr.parameters()} <= {id(p) for p in groups[-1]["params"]}


def test_parameters_outside_every_optimizer(scenes, tmp_path):
    class Own(ForeignFBR):
        def configure_optimizers(self):
            return torch.optim.SGD(self.classifier.parameters(), 0.1)

    with pytest.raises(ValueError, match=r"FBR's parameters are in no optimizer.*param_groups\[-1\]"):
        fit(Own(), scenes(), tmp_path)


def test_nan_features_skip_fbr_and_are_counted(scenes, tmp_path):
    class Unstable(ForeignFBR):
        def dense_views(self, batch, outputs):
            (view,) = super().dense_views(batch, outputs)
            if self.global_step == 2:
                view.features = view.features + float("nan")
            return [view]

    model = Unstable()
    with pytest.warns(UserWarning, match="NaN or infinite features"):
        trainer = fit(model, scenes(), tmp_path)
    assert trainer.callback_metrics["fbr/skipped"] == 1
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_module_in_half_precision(scenes, tmp_path):
    """Autocast is tested with every baseline."""
    trainer = fit(amn(fbr=CONFIG), scenes(), tmp_path, max_steps=2, precision="bf16-true")
    assert trainer.callback_metrics["fbr/total"].isfinite()


class Own(Baseline, pl.LightningModule):
    """As the README has it: levels and maps on grids of their own, and a prediction that may be gated."""

    view_shape = ViewShape(12, 5, level_channels=8)

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
        return self.gate_scores(scores if self.logits else scores.relu(), [fine], self.logits)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class OwnFBR(FBRMixin, Own):
    pass


class TwoViewsFBR(OwnFBR):
    """The second view is mirrored."""

    view_shape = ViewShape(12, 5, num_views=2, level_channels=8)

    def dense_views(self, batch, outputs):
        (view,) = super().dense_views(batch, outputs)
        mirrored = view.features.flip(-1), view.scores.flip(-1), view.labels
        return [view, DenseView(*mirrored, levels=(view.gate_levels[0].flip(-1),))]


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_views_are_averaged(monkeypatch):
    model, batch = TwoViewsFBR(fbr=CONFIG), {"image": torch.rand(2, 3, 32, 32), "label": torch.ones(2, 5)}
    terms, logged = [], {}
    model.fbr.register_forward_hook(lambda module, given, result: terms.append(result))
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: value}))
    loss = model.training_step(batch, 0)["loss"]
    first, second = (each.total for each in terms)
    assert first != second
    own = model(batch["image"])[2].square().mean()
    torch.testing.assert_close(loss, own + (first + second) / 2)
    torch.testing.assert_close(logged["fbr/total"], (first + second).detach() / 2)


class Forgetful(OwnFBR):
    def predict_step(self, batch, batch_idx):
        return self(batch["image"])[2]


@pytest.mark.parametrize("logits", [False, True])
def test_scores_of_one_s_own_baseline_are_gated_where_it_has_a_gate(logits, scenes, tmp_path):
    bare, published = Own(logits), OwnFBR(logits, fbr=CONFIG)
    gated = OwnFBR(logits, **recommended())
    for model in (published, gated):
        model.load_state_dict(bare.state_dict(), strict=False)
    batch = {"image": torch.rand(2, 3, 32, 32), "label": torch.ones(2, 5)}
    expected = bare.predict_step(batch, 0)
    assert torch.equal(published.predict_step(batch, 0), expected)
    assert torch.equal(gated.predict_step(batch, 0), expected)  # it has not seen any background yet
    gate = torch.rand(2, 5, 8, 8)
    gated.gate.forward = lambda levels, grid: gate if tuple(grid) == (8, 8) else None
    lowered = gated.predict_step(batch, 0)
    if logits:
        torch.testing.assert_close(lowered[:, 1:].exp(), expected[:, 1:].exp() * gate)
        assert torch.equal(lowered[:, :1], expected[:, :1])
    else:
        lowest = expected.amin((2, 3), keepdim=True)
        torch.testing.assert_close(lowered, lowest + (expected - lowest) * gate)


def test_a_gate_that_nothing_asks_is_warned_of(scenes, tmp_path):
    module = scenes()
    for model_class, settings, warned in (
        (OwnFBR, recommended(), False),
        (Forgetful, {"fbr": CONFIG}, False),
        (Forgetful, recommended(), True),
    ):
        model = model_class(**settings)
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
