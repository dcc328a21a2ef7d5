"""PPC, SEAM, EPS and FBR on PPC against outputs of the released code with the same weights and inputs.

`tests/reference/ppc.safetensors` holds what usr922/wseg computes (e96b961 for SEAM, c62f0d2 for EPS) and
XuYin94/FBR at fd1aeb8, with ResNet-38d narrowed by 16. Two defects of the contrasts and ECR were mended there
first: the background's prototype is that of all background pixels, and the one-hot maps know that the
background is the last channel.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.released import NarrowResNet38, close, fixed_input, reference, uniform, with_fixed_weights
from torch import Tensor, nn

from fbr_plugin.baselines import PPC, PPCFBR, OptimizerConfig
from fbr_plugin.baselines.encoders import build
from fbr_plugin.baselines.ppc.module import StepNoise
from fbr_plugin.baselines.ppc.network import PPCMaps
from fbr_plugin.functional import separation

IMAGE = fixed_input("image", 2, 3, 64, 48)
LABEL = torch.zeros(2, 20)
LABEL[0, [3, 7]] = LABEL[1, [3, 12, 19]] = 1
RELEASED = reference("ppc")
ON_EPS: dict[str, Any] = {
    "saliency": True,
    "seed_maps": "softmax",
    "grid_extent": "image",
    "contrast": {"background_score": 0.1, "topk_divisor": 16},
}


def agree(ours: Tensor, name: str, tolerance: float = 1e-6) -> None:
    """Compare with the released output, relative to its largest value."""
    close(ours.detach(), RELEASED[name], tolerance)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ResNet38d", NarrowResNet38)


def test_seam_network() -> None:
    model = with_fixed_weights(PPC(20, released_maps=True, dropout=0.0)).train()
    maps = model(IMAGE, LABEL)
    large = maps.enlarged(IMAGE.shape[-2:])
    agree(large.logits, "seam.logits")
    agree(large.cam[:, :, ::8, ::8], "seam.cam")
    agree(maps.refined, "seam.refined")
    agree(maps.projection[:, ::16], "seam.projection")


def test_eps_network_with_fbr() -> None:
    options = {"fbr": {"preset": "ppc", "released_heads": True, "bank_size": 100}, "shared_projection": True}
    model = with_fixed_weights(
        PPCFBR(20, released_maps=True, pooling="tap", dropout=0.0, **ON_EPS, **options)
    )
    model.fbr.classifier.bias.data.zero_()  # the released layer has none
    model.train()
    model.fbr.classifier.dropout = 0.0
    maps = model(IMAGE, LABEL)
    projections = model.fbr.heads(maps.levels[-1])
    agree(maps.logits, "eps.logits")
    agree(maps.cam, "eps.cam")
    agree(maps.refined, "eps.refined")
    agree(projections.foreground[:, ::16], "eps.foreground")
    agree(projections.background[:, ::16], "eps.background")
    agree(model.fbr.classifier(projections.before_relu), "eps.seg")
    apart = model.fbr.classifier.normalise(projections.before_relu)
    agree(separation(projections.foreground, apart), "eps.sim")


def test_eps_seeds() -> None:
    """Before each is divided by its maximum, to which the released code adds 1e-5."""
    model = with_fixed_weights(PPC(20, **ON_EPS)).eval()
    with torch.no_grad():
        plain, mirrored = model.view_scores({"image": IMAGE, "label": LABEL}, (1.0, 0.5))
    own = (plain + mirrored) / 2 * LABEL[:, :, None, None]
    agree(own[:, :, ::4, ::4], "eps.scores")


def maps(kind: str) -> tuple[list[PPCMaps], Tensor]:
    """The outputs of both views and a saliency map, in the order of the released channels."""
    sizes = [(21, 8), (21, 16)] * 2 + [(128, 8), (128, 16), (1, 64)]
    drawn = [uniform(f"{kind}{n}", 2, count, side, side) for n, (count, side) in enumerate(sizes, start=1)]
    cams, refined = [4 * x - 2 for x in drawn[:2]], [(4 * x - 2).relu() for x in drawn[2:4]]
    if kind == "eps":  # where the background is last
        cams, refined = [x.roll(1, 1) for x in cams], [(x / 4).roll(1, 1) for x in refined]
    views = [
        PPCMaps(cam[:, 1:].mean((2, 3)), cam, average, projection, [])
        for cam, average, projection in zip(cams, refined, drawn[4:6], strict=True)
    ]
    return views, (4 * drawn[6] - 2).sigmoid()[:, 0]


@pytest.mark.parametrize("kind", ["seam", "eps"])
def test_losses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepNoise, "forward", lambda self, count, *_: torch.arange(count) / count)
    options = ON_EPS if kind == "eps" else {}
    model = PPC(20, released_maps=True, **options)
    views, saliency = maps(kind)
    if kind == "seam":
        views = [view._replace(cam=view.cam[:, 1:]) for view in views]
    terms = model._terms(views, [(64, 64), (128, 128)], {"label": LABEL, "saliency": saliency}, (16, 16))
    agree(terms["cls"] + terms["min_pooling"], f"loss.{kind}.cls")
    agree(terms["er"], f"loss.{kind}.er")
    agree(terms["ecr"], f"loss.{kind}.ecr")
    contrasts = [terms["cross_prototype"], terms["cross_label"], terms["intra_view"]]
    if kind == "seam":
        for name, ours in zip(("cross_prototype", "cross_label", "intra_view"), contrasts, strict=True):
            agree(ours, f"loss.seam.{name}")
        agree(sum(terms.values()), "loss.seam.total")
    else:
        agree(terms["saliency"], "loss.eps.saliency")
        agree(sum(contrasts), "loss.eps.contrasts")


def test_optimizer() -> None:
    """Learning rates and weights of a few steps of the released PolyOptimizer, whose momentum is 0.0005."""
    config = OptimizerConfig(lr=0.01, head_lr=0.1, weight_decay=5e-4, momentum=5e-4)
    weights = [nn.Parameter(uniform(name, 3)) for name in "ab"]
    groups = [{"params": [weights[0]], "lr": config.lr}, {"params": [weights[1]], "lr": config.head_lr}]
    built = config.build(groups, 7)
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    for step in range(7):
        rates = torch.tensor([group["lr"] for group in optimizer.param_groups], dtype=torch.float64)
        torch.testing.assert_close(rates, RELEASED["optimizer.lr"][step], rtol=1e-12, atol=0)
        optimizer.zero_grad()
        sum(weight.pow(3).sum() for weight in weights).backward()
        optimizer.step()
        schedule.step()
    agree(torch.stack(weights), "optimizer.weights", 1e-7)


def test_groups_are_the_released_ones() -> None:
    """Convolutions of the encoder but the frozen ones, and new layers; no biases, no normalisation."""
    fbr = {"preset": "ppc", "released_heads": True}
    model = with_fixed_weights(PPCFBR(20, **ON_EPS, shared_projection=True, fbr=fbr))
    encoder, head = model.parameter_groups()
    frozen = {id(p) for part in (model.encoder.stem, model.encoder.stages[0]) for p in part.parameters()}
    convolutions = {id(p) for p in model.encoder.parameters() if p.dim() > 1} - frozen
    assert {id(p) for p in encoder["params"]} == convolutions
    assert {id(p) for p in head["params"]} == {id(p) for p in model.head.parameters()}
    assert (encoder["lr"], head["lr"]) == (0.01, 0.1)
    own = {name for name, p in model.fbr.named_parameters() if p.requires_grad}
    assert own == {"heads.foreground", "heads.background", "classifier.weight"}


def test_background_pixels_do_not_count_across_views() -> None:
    model = PPC(20, encoder="small", released_maps=True, **ON_EPS)
    views, saliency = maps("eps")
    step = views, [(64, 64), (128, 128)], {"label": LABEL, "saliency": saliency}, (16, 16)
    whole = model._terms(*step)
    model.contrast = replace(model.contrast, background_pixels=False)
    part = model._terms(*step)
    for name in ("cross_prototype", "cross_label"):
        assert 0 < part[name] < whole[name]
        agree(part[name], f"loss.fbr.{name}")
