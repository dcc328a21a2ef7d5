"""Checks of what a baseline hands over."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fbr_plugin.contract import DenseView, ViewShape
from fbr_plugin.errors import InputError
from fbr_plugin.functional import readable


def all_finite(values: Tensor) -> Tensor:
    """Whether no value is NaN or infinite, as 0-d bool: any of them shows in the sum."""
    return values.detach().sum(dtype=torch.promote_types(values.dtype, torch.float32)).isfinite()


def check_view(view: DenseView, shape: ViewShape, index: int) -> None:
    """Raise `ValueError` unless a view has the sizes that the baseline announced.

    Args:
        view: the baseline's dense outputs.
        shape: sizes that the baseline announced.
        index: which view of the step this is.
    """
    batch, classes = view.features.shape[0], shape.num_classes
    if tuple(view.labels.shape) != (batch, classes):
        raise InputError(
            f"labels must be [{batch}, {classes}] for these features and num_classes={classes}, "
            f"got {tuple(view.labels.shape)}"
        )
    labels = view.labels
    if readable(labels) and not ((labels == 0) | (labels == 1)).all():
        wrong = labels[(labels != 0) & (labels != 1)][0].item()
        raise InputError(f"labels must be 0 or 1 for each class, got {wrong}")
    if view.scores.shape[-2:] != view.features.shape[-2:]:
        raise InputError(
            f"scores {tuple(view.scores.shape)} and features {tuple(view.features.shape)} must share "
            "their grid: resize one of them"
        )
    if not 0 <= index < shape.num_views:
        raise InputError(f"view {index} is out of range: the view shape has num_views={shape.num_views}")


def check_levels(levels: Sequence[Tensor], channels: int) -> None:
    """Raise `ValueError` unless feature levels [B, L_j, h_j, w_j] have so many channels together."""
    if not levels or any(level.dim() != 4 or len(level) != len(levels[0]) for level in levels):
        shapes = [tuple(level.shape) for level in levels]
        raise InputError(f"levels must be one or more [B, L, h, w] of the same images, got {shapes}")
    widths = [level.shape[1] for level in levels]
    if sum(widths) != channels:
        raise InputError(
            f"the gate was made for {channels} channels, but the levels have {', '.join(map(str, widths))}: "
            f"give ViewShape their sum, level_channels={sum(widths)}"
        )
