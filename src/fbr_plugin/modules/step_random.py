"""Randomness of its own for a module that draws at every training step."""

import numpy as np
import torch
from torch import Tensor, nn

from fbr_plugin.distributed import rank
from fbr_plugin.functional import CounterGenerator, split_mix


class StepRandom(nn.Module):
    """A module whose draws come from the global seed at construction, a step counter, a view and the process.

    The global stream stays as it was. Seed and counter are in the state dict, so that a resumed run draws
    what the uninterrupted one would have drawn. A subclass advances `step` itself. The counter is a tensor on
    the module's device, so that a step can be compiled, or captured as a CUDA graph, and still draws anew.

    Attributes:
        seed: the global seed at construction.
        step: 0-d int64, training steps so far.
    """

    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.seed = torch.initial_seed() % 2**63
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def generator(self, view: int = 0) -> CounterGenerator:
        """The source of this step, view and process, on the module's device."""
        key = split_mix(torch.full_like(self.step, self.seed), self.step)
        return CounterGenerator(split_mix(key, torch.full_like(key, view << 32 | rank())))

    def initial_generator(self) -> torch.Generator:
        """The source of initial weights, on the CPU."""
        state = np.random.SeedSequence((self.seed, 0, 0, rank())).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))

    def get_extra_state(self) -> Tensor:
        """The seed and the step counter, for the state dict."""
        return torch.stack([self.step.new_tensor(self.seed), self.step])  # without a value, on meta tensors

    def set_extra_state(self, state: Tensor) -> None:
        """Take the seed and the step counter from a state dict."""
        self.seed, step = state.tolist()
        self.step.fill_(step)
