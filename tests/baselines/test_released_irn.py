"""IRN in its released form, against what jiwoon-ahn/irn (commit a2ece00) returned for the same weights."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.released import close, example, fixed_input, reference, toy_descent, with_fixed_weights
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from fbr_plugin.baselines.irn.losses import irn_losses
from fbr_plugin.baselines.irn.module import IRN
from fbr_plugin.baselines.irn.network import BoundaryBranch, DisplacementBranch, Grid
from fbr_plugin.config import merged, preset
from fbr_plugin.functional import random_walk, resize

CHANNELS, STRIDES = (64, 256, 512, 1024, 2048), (4, 4, 8, 16, 16)  # of resnet50_irn
SIZE = (50, 67)  # of the image
WALK = {"scores": (2, 14, 19), "boundary": (14, 19)}


def build(**options: Any) -> IRN:
    """A small network in the released form."""
    pl.seed_everything(0, verbose=False)
    return IRN(3, **{"encoder": "small", "radius": 3, "released": True, **options})


@pytest.mark.parametrize("mode", ["train", "eval"])
@torch.no_grad()
def test_branches(mode: str) -> None:
    branches = nn.ModuleDict(
        {
            "boundary_branch": BoundaryBranch(CHANNELS, STRIDES, late_relu=True),
            "displacement_branch": DisplacementBranch(CHANNELS, STRIDES, late_relu=True),
        }
    )
    with_fixed_weights(branches).train(mode == "train")
    grids = [[-(-side // stride) for side in SIZE] for stride in STRIDES]
    shapes = zip(CHANNELS, grids, strict=True)
    levels = [fixed_input(f"level{width}", 2, width, *grid) for width, grid in shapes]
    grid, released = Grid(4, *grids[0]), reference("irn")
    for name, branch in branches.items():
        close(branch(levels, grid), released[f"{name.removesuffix('_branch')}_{mode}"])


def test_losses_leave_out_pairs_at_the_border() -> None:
    released = reference("irn")
    logits, displacement = (
        released[f"{name}_train"].clone().requires_grad_() for name in ("boundary", "displacement")
    )
    label = torch.tensor([0, 1, 2, 255])[fixed_input("label", 2, 13, 17).floor().long() + 2]
    losses = irn_losses(logits.sigmoid(), displacement, label, 4, inner=True)
    losses.total.backward()
    close(torch.stack(losses).detach(), released["losses"])
    for name, value in (("boundary", logits), ("displacement", displacement)):
        assert value.grad is not None
        close(value.grad, released[f"{name}_gradient"], 1e-4)
    assert irn_losses(logits.sigmoid(), displacement, label, 4).total != losses.total
    for height, width in ((3, 17), (13, 6)):
        small = [maps[..., :height, :width] for maps in (logits.sigmoid(), displacement, label)]
        assert irn_losses(*small, 4, inner=True).total == 0
        assert irn_losses(*small, 4).total > 0


def test_random_walk() -> None:
    scores, boundary = (fixed_input(name, *shape).abs() / 2 for name, shape in WALK.items())
    close(random_walk.propagate(scores, boundary**3), reference("irn")["walk"])


def test_optimizer_of_the_recipe() -> None:
    """The momentum is the weight decay, which the released optimizer takes for it."""
    settings = example("recipes/voc/amn")["irn"]["model"]["init_args"]
    assert (settings["encoder"], settings["released"]) == ("resnet50_irn", True)
    config = merged(preset(IRN, "optimizer"), settings["optimizer"])
    weights = [nn.Parameter(torch.tensor([1.0, 2.0, 3.0])), nn.Parameter(torch.tensor([-1.0, 0.5]))]
    rates = (config.lr, config.head_lr)
    groups = [{"params": [each], "lr": lr} for each, lr in zip(weights, rates, strict=True)]
    rates_of_steps = toy_descent(config.build(groups, 12), weights, 12)
    released = reference("irn")
    torch.testing.assert_close(rates_of_steps, released["rates"], rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.cat(weights).detach(), released["weights"], rtol=1e-6, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("canvas", [48, 32, 0])
def test_images_are_padded_for_the_walk(canvas: int) -> None:
    model, image = build(walk_canvas=canvas).eval(), torch.randn(1, 3, 30, 41)
    padding = (0, max(canvas - 41, 0), 0, max(canvas - 30, 0))
    views = (pad(view, padding) for view in (image, image.flip(-1)))
    plain, mirrored = (model(view)[0][:, :8, :11] for view in views)
    torch.testing.assert_close(model.boundary(image), ((plain + mirrored.flip(-1)) / 2).sigmoid())


@torch.no_grad()
def test_scores_come_to_the_grid_by_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    image, scores, seen = torch.randn(1, 3, 30, 41), torch.rand(2, 30, 41), []

    def stand_still(coarse: Tensor, *_: Any) -> Tensor:
        seen.append(coarse)
        return coarse

    monkeypatch.setattr(random_walk, "propagate", stand_still)
    for released in (True, False):
        build(released=released, walk_canvas=48).propagate(image, scores)
    torch.testing.assert_close(seen[0], resize(scores[None], (8, 11))[0])
    torch.testing.assert_close(seen[1], avg_pool2d(scores, 4, ceil_mode=True))
