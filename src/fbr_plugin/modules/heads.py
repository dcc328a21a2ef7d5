"""The projection heads and the background classifier of FBR."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbr_plugin.distributed import BatchShare, all_reduce_and
from fbr_plugin.errors import InputError
from fbr_plugin.functional import Generator, uniform
from fbr_plugin.modules.batch_norm import GlobalBatchNorm2d
from fbr_plugin.modules.checks import all_finite

FIXED_SHIFT = 1e-4  # bias of the released normalisation


class Projections(NamedTuple):
    """The output of `ProjectionHeads`.

    Attributes:
        foreground: [B, D, h, w] after ReLU.
        background: [B, D, h, w] after ReLU.
        before_relu: [B, D, h, w] the background projection before it.
        finite: 0-d bool, on every process False when one of them met NaN or infinite features; then all
            projections are 0 and send no gradient.
    """

    foreground: Tensor
    background: Tensor
    before_relu: Tensor
    finite: Tensor


class ProjectionHeads(nn.Module):
    """Separate projections of the foreground and the background, whose granularity differs.

    Two 1x1 convolutions without bias, Xavier-uniform, each followed by ReLU. [FBR, section III]

    Args:
        in_channels: L, channels of the features.
        dim: D, width of each projection.
        generator: source of the initial weights; None draws from the global stream.
    """

    def __init__(self, in_channels: int, dim: int = 128, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.foreground = nn.Parameter(torch.empty(dim, in_channels, 1, 1))
        self.background = nn.Parameter(torch.empty(dim, in_channels, 1, 1))
        for weight in (self.foreground, self.background):
            nn.init.xavier_uniform_(weight, generator=generator)

    def forward(self, features: Tensor) -> Projections:
        """Project `features` [B, L, h, w].

        Raises:
            ValueError: features of another number of channels.
        """
        if features.dim() != 4 or features.shape[1] != self.in_channels:
            raise InputError(
                f"features must be [B, {self.in_channels}, h, w], got {tuple(features.shape)}: give FBR the "
                "number of channels that the encoder puts out (feature_channels, in_channels)"
            )
        # The zero gradient of a skipped step, times NaN features, must stay zero: `where` does not multiply.
        weight = torch.where(all_finite(features), torch.cat([self.foreground, self.background]), 0)
        both = _project(weight, features)  # which reads the features once for both heads
        finite = all_reduce_and(all_finite(both)) if self.training else all_finite(both)
        foreground, background = torch.where(finite, both, 0).chunk(2, dim=1)
        return Projections(foreground.relu(), background.relu(), background, finite)


def _project(weight: Tensor, features: Tensor) -> Tensor:
    """Convolve features [B, L, h, w] with weights [D, L, 1, 1]: [B, D, h, w] in their memory format."""
    if not features.is_contiguous():
        return F.conv2d(features, weight)
    device = features.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        weight, features = (each.to(torch.get_autocast_dtype(device)) for each in (weight, features))
    return _Products.apply(weight.flatten(1), features.flatten(2)).unflatten(2, features.shape[-2:])  # type: ignore


class _Products(torch.autograd.Function):
    """A 1x1 convolution as matrix products, in four fifths of the time of PyTorch's own on a CPU.

    The gradient of the weights is summed image by image, in at least float32, so that no tensor has one for
    each image.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, maps: Tensor) -> Tensor:
        """[D, L] and [B, L, n] -> [B, D, n]."""
        ctx.save_for_backward(weight, maps)
        return torch.bmm(weight.expand(len(maps), -1, -1), maps)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the weights and of the maps, of that of the products [B, D, n]."""
        (weight, maps), (gradient,) = ctx.saved_tensors, outer
        of_weight = of_maps = None
        if ctx.needs_input_grad[0]:
            of_weight = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
            for own, each in zip(gradient, maps, strict=True):
                of_weight += own @ each.T
            of_weight = of_weight.to(weight.dtype)
        if ctx.needs_input_grad[1]:
            of_maps = torch.bmm(weight.T.expand(len(maps), -1, -1), gradient)
        return of_weight, of_maps


class BackgroundClassifier(nn.Module):
    """Binary classifier of background pixels: BatchNorm, ReLU, dropout, 1x1 convolution. [FBR, section III]

    Args:
        dim: D, width of the background projection.
        dropout: probability of dropping a value.
        generator: source of the initial weights; None draws from the global stream.
        fixed: whether the normalisation keeps its initial statistics and the convolution has no bias, as in
            the released code for PPC, where the encoder sets every BatchNorm to evaluation.
        share: of the batch that the images are.
    """

    def __init__(
        self,
        dim: int = 128,
        dropout: float = 0.5,
        generator: torch.Generator | None = None,
        fixed: bool = False,
        share: BatchShare = BatchShare(),
    ) -> None:
        super().__init__()
        self.fixed = fixed
        self.share = share
        self.norm = GlobalBatchNorm2d(dim) if share.global_batch else nn.BatchNorm2d(dim)
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(1, dim, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1))
        nn.init.xavier_uniform_(self.weight, generator=generator)
        if fixed:
            nn.init.constant_(self.norm.bias, FIXED_SHIFT)
            self.norm.requires_grad_(False).eval()
            self.bias.requires_grad_(False)

    def train(self, mode: bool = True) -> "BackgroundClassifier":
        """Set the mode, but leave a fixed normalisation in evaluation."""
        super().train(mode)
        self.norm.train(mode and not self.fixed)
        return self

    def normalise(self, projection: Tensor) -> Tensor:
        """The features [B, D, h, w] to classify, of the projection before ReLU [B, D, h, w]."""
        normalised: Tensor = self.norm(projection)
        return normalised.relu()

    def forward(self, projection: Tensor, generator: Generator | None = None) -> Tensor:
        """Logits [B, h, w] of being background, of the projection before ReLU [B, D, h, w].

        Args:
            projection: [B, D, h, w].
            generator: source of the dropout, on the device of `projection`.
        """
        hidden = self.normalise(projection)
        weight: Tensor = self.weight
        if self.training and self.dropout > 0:
            kept = uniform(hidden.shape, hidden.device, generator, share=self.share) >= self.dropout
            # The scale of what is kept goes to the weight, the smaller tensor.
            hidden, weight = hidden * kept, weight / (1 - self.dropout)
        return F.conv2d(hidden, weight, self.bias)[:, 0]
