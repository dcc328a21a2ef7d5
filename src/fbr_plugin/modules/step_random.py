"""Randomness of its own for a module that draws at every training step."""

import numpy as np
import torch
from torch import Tensor, nn

from fbr_plugin.distributed import rank


class StepRandom(nn.Module):
    """A module whose draws come from the global seed at construction, a step counter, a view and the process.

    The global stream stays as it was. Seed and counter are in the state dict, so that a resumed run draws
    what the uninterrupted one would have drawn. A subclass advances `step` itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seed = torch.initial_seed() % 2**63
        self.step = 0

    def generator(self, device: torch.device, view: int = 0) -> torch.Generator:
        """A generator on `device` for this step, view and process."""
        state = np.random.SeedSequence((self.seed, self.step, view, rank())).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(state[0]))

    def get_extra_state(self) -> Tensor:
        """The seed and the step counter, for the state dict."""
        return torch.tensor([self.seed, self.step])

    def set_extra_state(self, state: Tensor) -> None:
        """Take the seed and the step counter from a state dict."""
        self.seed, self.step = state.tolist()
