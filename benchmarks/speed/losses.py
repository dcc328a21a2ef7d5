"""FBR's losses at the published sizes: the released functions beside ours, forward and backward."""

import importlib
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.loss import CLASSES, GRID, make_loss, make_view, smooth_noise
from benchmarks.speed.timing import Case
from fbr_plugin import DenseView, FBRConfig, FBRLoss, ViewShape
from fbr_plugin.modules import MemoryBank

BANK = {"amn": 100_000, "ppc": 50_000}
VIEWS = (56, 16)  # grids of PPC's views, of which the first is brought to the second
NOT_COMPARED = "not compared: the released cosine to the bank is over another axis"


def not_compared(*_: object) -> str:
    """The released values differ by design, see docs/fidelity.md."""
    return NOT_COMPARED


def amn(batch: int, channels: int, theirs: bool = True) -> Case:
    """The losses for AMN: one view, the background of which is a class."""
    torch.manual_seed(0)
    view, loss = make_view(batch, channels), make_loss(channels, FBRConfig.amn())
    view.scores = 3 * smooth_noise(batch, 1 + CLASSES, 5)
    released = None
    if theirs:
        region = importlib.import_module("region_utils")
        contrast = region.Compled_reco()
        contrast.memo_bank = torch.randn(BANK["amn"], loss.config.dim).relu()

        def released() -> None:
            foreground, background = projected(loss, view.features)
            parts = region.get_contrast_loss(view.scores, foreground, background, contrast)
            back(view, loss, sum(parts) + 0.1 * F.cosine_similarity(foreground, background).mean())

    text = f"batch {batch}, {GRID}x{GRID}, {channels} channels, bank {BANK['amn']}"
    return Case(lambda: back(view, loss, loss(view).total), released, not_compared, text)


def ppc(batch: int, channels: int, theirs: bool = True) -> Case:
    """The losses for PPC: two views, on the grid of the second."""
    torch.manual_seed(0)
    config = FBRConfig.ppc()
    loss = FBRLoss(ViewShape(channels, CLASSES, num_views=2), config)
    for bank in loss.banks:
        rows = torch.randn(config.bank_size, config.dim).relu()
        cast(MemoryBank, bank).enqueue(rows, torch.zeros(len(rows), CLASSES), torch.ones(len(rows)).bool())
    small, large = make_view(batch, channels), make_view(batch, channels)
    views = []
    for view, side in zip((large, small), VIEWS, strict=True):
        features = F.interpolate(view.features.detach(), (side, side), mode="bilinear").requires_grad_()
        scores = F.interpolate(view.scores, (side, side), mode="bilinear")
        views.append(DenseView(features, scores, view.labels, grid=[VIEWS[1]] * 2))

    def ours() -> None:
        back(views, loss, sum(loss(view, index).total for index, view in enumerate(views)) / 2)

    released = None
    if theirs:
        train, region = (importlib.import_module(name) for name in ("module.train", "region_utils"))
        banks = [region.Bank_contrast_loss() for _ in views]
        for bank in banks:
            bank.memo_bank = torch.randn(BANK["ppc"], config.dim).relu()
        cams = [F.pad(view.scores, (0, 0, 0, 0, 0, 1)) for view in views]  # the background is the last there

        def released() -> None:
            pairs = [projected(loss, view.features) for view in views]
            (one, behind_one), (two, behind_two) = pairs
            parts = train.get_contrast_loss(
                *banks, *cams, one, two, behind_one, behind_two, views[0].labels, gamma=0.1, bg_thres=0.1
            )
            apart = sum(F.cosine_similarity(*pair).mean() for pair in pairs) / 2
            back(views, loss, sum(parts) + 0.1 * apart)

    text = f"batch {batch}, two views on {VIEWS[1]}x{VIEWS[1]}, {channels} channels, banks {BANK['ppc']}"
    return Case(ours, released, not_compared, text)


def projected(loss: FBRLoss, features: Tensor) -> tuple[Tensor, Tensor]:
    """The projections of the foreground and of the background, by the same weights for both arms."""
    foreground, background = (
        F.conv2d(features, weight).relu() for weight in (loss.heads.foreground, loss.heads.background)
    )
    return foreground, background


def back(views: DenseView | list[DenseView], loss: FBRLoss, total: Tensor) -> None:
    """The gradients of a loss at the features and the weights, in place of the last ones."""
    features = [view.features for view in (views if isinstance(views, list) else [views])]
    for leaf in (*features, *loss.parameters()):
        leaf.grad = None
    total.backward()
