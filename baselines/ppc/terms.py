"""SEAM's losses on a pair of views, and what they are made of."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, multilabel_soft_margin_loss

from fbr_plugin.baselines.ppc import seam_losses
from fbr_plugin.baselines.ppc.network import PPCMaps, resize


def seam_terms(
    views: Sequence[PPCMaps], label: Tensor, sizes: Sequence[Sequence[int]] | None = None
) -> dict[str, Tensor]:
    """SEAM's losses by name, on the grid of the smaller, second view.

    Args:
        views: both views of a batch.
        label: [B, C] image labels in {0, 1}.
        sizes: height and width of each view, to which maps are enlarged first; None leaves them.
    """
    if sizes is not None:
        views = [view.enlarged(size) for view, size in zip(views, sizes, strict=True)]
    smaller = views[1].cam.shape[-2:]
    with_background = torch.cat([torch.ones_like(label[:, :1]), label], 1)
    refined = [own_classes(view.refined, with_background) for view in views]
    cams, averaged = (
        tuple(resize(seam_losses.max_normalise(maps), smaller) for maps in pair)
        for pair in ([own_classes(view.cam, label) for view in views], refined)
    )
    er, ecr = seam_losses.equivariance((cams[0], cams[1]), (averaged[0], averaged[1]))
    return {
        "cls": mean(multilabel_soft_margin_loss(view.logits, label) for view in views),
        "min_pooling": mean(seam_losses.adaptive_min_pooling(maps[:, 1:]) for maps in refined),
        "er": er,
        "ecr": ecr,
    }


def saliency_on_grid(saliency: Tensor, size: Sequence[int], grid: Sequence[int], nearest: bool) -> Tensor:
    """The saliency map [B, H, W] of an image on the grid of one of its views.

    Args:
        saliency: [B, H, W].
        size: height and width of the view.
        grid: those of the grid.
        nearest: whether to resize the map to the view and take the nearest pixels, instead of averages.
    """
    if nearest:
        return interpolate(resize(saliency[:, None], size), tuple(grid))[:, 0]
    return adaptive_avg_pool2d(saliency, (grid[0], grid[1]))


def own_classes(maps: Tensor, label: Tensor) -> Tensor:
    """The last C of maps [B, C or more, h, w], 0 for the classes that label [B, C] lacks."""
    return maps[:, -label.shape[1] :] * label[:, :, None, None].to(maps.dtype)


def mean(values: Iterable[Tensor]) -> Tensor:
    """The mean of 0-d tensors."""
    return torch.stack(list(values)).mean()
