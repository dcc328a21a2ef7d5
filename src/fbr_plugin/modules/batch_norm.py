"""BatchNorm with the statistics of all processes, on any device."""

import torch
from torch import Tensor, nn

from fbr_plugin.distributed import BatchShare, is_distributed, mean_over_processes


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with the mean and the variance of the batches of all processes, which have equal sizes.

    PyTorch's `SyncBatchNorm` does the same on GPUs alone. In one process this is BatchNorm2d.

    Args:
        num_features: D, channels.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input` [B, D, h, w]."""
        if not (self.training and is_distributed()):
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = mean_over_processes(values.mean((0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = mean_over_processes(centred.square().mean((0, 2, 3)))
        self._remember(mean.detach(), variance.detach(), values)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, values: Tensor) -> None:
        """Update the running statistics, which take the unbiased variance."""
        count = BatchShare(global_batch=True).processes * values.numel() / len(mean)
        self.num_batches_tracked.add_(1)  # type: ignore
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)  # type: ignore
        unbiased = variance * count / (count - 1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)  # type: ignore
