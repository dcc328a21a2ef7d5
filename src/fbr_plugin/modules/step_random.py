"""A module that is alike on every process, with randomness of its own at every training step."""

import numpy as np
import torch
from torch import Tensor, nn

from fbr_plugin.distributed import (
    BatchShare,
    broadcast_from_rank_zero,
    broadcast_state,
    is_distributed,
    rank,
)
from fbr_plugin.functional import CounterGenerator, split_mix


class StepRandom(nn.Module):
    """A module whose draws come from the global seed at construction, a step counter, a view and the process.

    The global stream stays as it was. Seed and counter are in the state dict, so that a resumed run draws
    what the uninterrupted one would have drawn. The counter is a tensor on the module's device, so that a
    step can be compiled, or captured as a CUDA graph, and still draws anew.

    Args:
        global_batch: whether a step is computed on the images of all processes; they draw alike then.

    Attributes:
        seed: the global seed at construction.
        step: 0-d int64, training steps so far.
    """

    step: Tensor

    def __init__(self, global_batch: bool = False) -> None:
        super().__init__()
        self.global_batch = global_batch
        self.seed = torch.initial_seed() % 2**63
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)
        self._agreed = False

    @property
    def share(self) -> BatchShare:
        """This process's share of the batch of a step; in evaluation every process is on its own."""
        return BatchShare(self.global_batch and self.training)

    def begin(self, index: int, images: int) -> None:
        """Begin a view of a step: in training mode count the step, which view 0 begins.

        Before the first step, all processes take the state and the seed of the first: each may have been
        built with another seed, and DDP is told to leave the memory banks alone.

        Args:
            index: which view of the step this is.
            images: B, the images of the view.

        Raises:
            ValueError: a global batch of which the processes have different numbers of images.
        """
        if not self.training:
            return
        self.share.check(images)
        if is_distributed() and not self._agreed:
            self._agree()
        if index == 0:
            self.step += 1

    @torch.compiler.disable
    def _agree(self) -> None:
        """Take the state and the seed of the first process."""
        broadcast_state(self)
        self.set_extra_state(broadcast_from_rank_zero(self.get_extra_state()))
        self._agreed = True

    def generator(self, view: int = 0) -> CounterGenerator:
        """The source of this step and view, on the module's device; each process has its own by default."""
        key = split_mix(torch.full_like(self.step, self.seed), self.step)
        process = 0 if self.global_batch else rank()
        return CounterGenerator(split_mix(key, torch.full_like(key, view << 32 | process)))

    def initial_generator(self) -> torch.Generator:
        """The source of initial weights, on the CPU; for one seed the same on every process."""
        state = np.random.SeedSequence((self.seed, 0, 0, 0)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))

    def get_extra_state(self) -> Tensor:
        """The seed and the step counter, for the state dict."""
        return torch.stack([self.step.new_tensor(self.seed), self.step])  # without a value, on meta tensors

    def set_extra_state(self, state: Tensor) -> None:
        """Take the seed and the step counter from a state dict."""
        self.seed, step = state.tolist()
        self.step.fill_(step)
