"""capture: code that nobody can edit copies its parts, calls them twice, and works in place."""

import copy
import warnings

import pytest
import pytorch_lightning as pl
import torch
from helpers.runs import fit
from torch import nn

from fbr_plugin import DenseView, FBRConfig, FBRMixin, SeedPrediction, ViewShape, capture, recommended

CONFIG = FBRConfig(dim=8, num_clusters=3, bank_size=300, min_bank=2, num_negatives=16)


class Theirs(pl.LightningModule):
    """A network that copies its encoder in forward, runs it on two views, and rectifies in place."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 6, 3, 4, 1)
        self.classifier = nn.Conv2d(6, 5, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, image):
        features = self.relu(self.encoder(image))
        frozen = copy.deepcopy(self.encoder)  # as BAS's released code does
        frozen(image * 0)
        return self.classifier(features)

    def training_step(self, batch, batch_idx):
        whole, crop = self(batch["image"]), self(batch["image"][..., :16, :16])
        logits = whole.mean((2, 3)) + crop.mean((2, 3))
        return nn.functional.multilabel_soft_margin_loss(logits, batch["label"])

    def predict_step(self, batch, batch_idx):
        return self(batch["image"]).relu()

    def configure_optimizers(self):
        return torch.optim.SGD([{"params": list(self.encoder.parameters())}], 0.1)


class TheirsFBR(FBRMixin, Theirs):
    view_shape = ViewShape(6, 5)
    features = capture("encoder", call=0)
    everything = capture("encoder", call=slice(None))
    images = capture("encoder", call=slice(None), inputs=True)
    crop = capture("encoder", call=-1)
    absent = capture("encoder", call=7)
    only = capture("encoder")
    scores = capture("classifier", call=0)

    def dense_views(self, batch, outputs):
        return [DenseView(self.features, self.scores, batch["label"])]


def make(**settings):
    pl.seed_everything(0, verbose=False)
    return TheirsFBR(**{"fbr": CONFIG, **settings})


def make_batch():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 32, 32, generator=generator)
    return {"image": image, "label": torch.tensor([[1.0, 1, 0, 0, 0], [0, 1, 1, 0, 0]])}


@pytest.fixture
def seen(monkeypatch):
    """The values that dense_views can read in a step."""
    kept = {}
    original = TheirsFBR.dense_views

    def dense_views(self, batch, outputs):
        for name in ("features", "everything", "images", "crop"):
            kept[name] = getattr(self, name)
        for name in ("absent", "only"):
            with pytest.raises(RuntimeError) as caught:
                getattr(self, name)
            kept[name] = str(caught.value)
        return original(self, batch, outputs)

    monkeypatch.setattr(TheirsFBR, "dense_views", dense_views)
    return kept


def test_every_call_in_order_and_no_copy(seen):
    model, batch = make(), make_batch()
    model.training_step(batch, 0)
    assert [value.shape[-1] for value in seen["everything"]] == [8, 4]
    assert seen["features"] is seen["everything"][0]
    assert seen["crop"] is seen["everything"][1]
    assert [len(inputs) for inputs in seen["images"]] == [1, 1]
    assert torch.equal(seen["images"][1][0], batch["image"][..., :16, :16])
    assert "ran 2 times, there is no call 7" in seen["absent"]
    assert "ran 2 times in this step: say which call" in seen["only"]


def test_values_are_those_before_an_operation_in_place(seen):
    model, batch = make(), make_batch()
    expected = model.encoder(batch["image"])
    assert (expected < 0).any()
    model.training_step(batch, 0)
    assert torch.equal(seen["features"], expected)


def test_a_model_in_channels_last(seen):
    batch, totals = make_batch(), []
    for form in (torch.contiguous_format, torch.channels_last):
        model = make().to(memory_format=form)
        image = batch["image"].contiguous(memory_format=form)
        totals.append(model.training_step({**batch, "image": image}, 0))
        assert seen["features"].is_contiguous(memory_format=form)
        totals[-1].backward()
        assert model.encoder.weight.grad.any()
    torch.testing.assert_close(*totals)


def test_every_term_reaches_the_encoder():
    model, batch = make(), make_batch()
    for _ in range(6):
        model.training_step(batch, 0)
    assert model.fbr.banks[0].fill >= CONFIG.min_bank
    with model.captures.step():
        Theirs.training_step(model, batch, 0)
        terms = model.fbr(*model.dense_views(batch, None))
    for name in ("fg", "bg", "seg", "sim"):
        (gradient,) = torch.autograd.grad(getattr(terms, name), model.encoder.weight, retain_graph=True)
        assert gradient.any(), name


class Rehearsing(Theirs):
    """Looks at its maps without gradient before its step, as ToCo's released code does."""

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            self(batch["image"])
        return super().training_step(batch, batch_idx)


class RehearsingFBR(TheirsFBR, Rehearsing):
    second = capture("encoder", call=1)


def test_features_of_a_call_without_gradient_are_warned_of():
    class Careful(RehearsingFBR):
        def dense_views(self, batch, outputs):
            return [DenseView(self.second, self.classifier(self.second), batch["label"])]

    for model_class, warned in ((RehearsingFBR, 1), (Careful, 0)):
        model = model_class(fbr=CONFIG)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                model.training_step(make_batch(), 0)
        told = [str(each.message) for each in caught if "carry no gradient" in str(each.message)]
        assert len(told) == warned
        assert all("call=-1" in each for each in told)


def test_predictions_are_gated_from_outside(scenes, tmp_path):
    class Gated(TheirsFBR):
        def predict_step(self, batch, batch_idx):
            cams = super().predict_step(batch, batch_idx)
            cams = self.gate_scores(cams, [self.only])
            return SeedPrediction(batch["id"], cams, batch["label"])

    pl.seed_everything(0, verbose=False)
    model = Gated(**recommended())
    trainer = fit(model, scenes(), tmp_path, max_steps=2)
    batch = next(iter(scenes().predict_dataloader()))
    assert torch.equal(model.predict_step(batch, 0).seeds, Theirs.predict_step(model, batch, 0))
    model.gate.forward = lambda levels, grid: torch.full((len(levels[0]), 5, *grid), 0.5)
    plain = Theirs.predict_step(model, batch, 0)
    expected = (plain + plain.amin((2, 3), keepdim=True)) / 2
    torch.testing.assert_close(model.predict_step(batch, 0).seeds, expected)
    (first, _) = trainer.predict(model, scenes())
    assert len(first.seeds) == len(first.ids)
    assert not model.captures.kept
    assert not model.encoder._forward_hooks


def test_a_copied_model_keeps_for_itself():
    model, batch = make(), make_batch()
    twin = copy.deepcopy(model)
    twin.training_step(batch, 0)
    assert torch.equal(
        twin.training_step(batch, 0).detach(), [model.training_step(batch, 0) for _ in range(2)][1].detach()
    )


def test_hooks_are_removed_after_an_error():
    model = make()
    with pytest.raises(KeyError):
        model.training_step({"image": torch.zeros(1, 3, 32, 32)}, 0)
    assert not model.encoder._forward_hooks
    assert not model.captures.kept


def test_an_unknown_submodule():
    class Wrong(TheirsFBR):
        features = capture("backbone.layer4")

    with pytest.raises(AttributeError, match=r"capture\('backbone.layer4'\).*it has encoder, classifier"):
        Wrong(fbr=CONFIG).training_step(make_batch(), 0)


def test_outside_of_a_step():
    with pytest.raises(RuntimeError, match=r"nothing was captured from 'encoder'.*dense_views"):
        _ = make().features


def test_hooks_that_are_bypassed():
    class Bypassing(Theirs):
        def forward(self, image):
            return self.classifier(self.encoder.forward(image))

    class BypassingFBR(TheirsFBR, Bypassing):
        pass

    with pytest.raises(RuntimeError, match=r"did not run.*\.forward\(\.\.\.\), which bypasses hooks"):
        BypassingFBR(fbr=CONFIG).training_step(make_batch(), 0)


@pytest.mark.slow
def test_a_compiled_submodule():
    class Skipping(Theirs):
        def forward(self, image):
            return self.classifier(torch.zeros(len(image), 6, 4, 4))

    class SkippingFBR(TheirsFBR, Skipping):
        pass

    model = SkippingFBR(fbr=CONFIG)
    model.encoder.compile()
    with pytest.raises(RuntimeError, match="'encoder', which is compiled"):
        model.training_step(make_batch(), 0)
