"""The steps that were skipped because their features were not finite."""

import torch
from torch import Tensor, nn

from fbr_plugin.errors import WarnOnce
from fbr_plugin.functional import readable


class SkippedSteps(nn.Module):
    """Counts skipped steps in the state dict, and warns of the first.

    Args:
        what: the part that skips, for the warning.
    """

    count: Tensor

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._warn = WarnOnce()

    def forward(self, finite: Tensor) -> None:
        """Count a training step unless it was finite (0-d bool)."""
        if self.training:
            self.count += ~finite
        if readable(finite):
            self.warn()

    def warn(self) -> int:
        """Warn once if a step was skipped, and return how many were.

        Off the CPU it waits for the device, so call it now and then.
        """
        if count := int(self.count):
            self._warn(
                f"{self.what} met NaN or infinite features and left that step out. Lower the learning rate, "
                "or train in float32."
            )
        return count
