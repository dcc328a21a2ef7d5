"""The order of training images and the seeds of their augmentation, exact across interruptions."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pytorch_lightning import Trainer
from torch.utils.data import DistributedSampler


class EpochSampler(DistributedSampler[Any]):
    """Yields (index, seed) pairs that depend on the seed and the epoch alone.

    Neither the number of workers nor an interruption changes what an item's augmentation draws, as its seed
    comes from (seed, epoch, index). The remainder that does not fill every rank is dropped.

    Args:
        dataset: what is sampled from; only its length counts.
        seed: names the order and the augmentation of the whole run.
        num_replicas: number of processes.
        rank: this process.

    Attributes:
        position: gives the epoch and the samples of this rank to skip in it, asked whenever an iteration
            begins. Without it every iteration is a whole epoch, the one set by `set_epoch`. The length stays
            that of a whole epoch, as Lightning goes on counting where an interrupted one stopped.
    """

    def __init__(self, dataset: Any, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self.position: Callable[[], tuple[int, int]] | None = None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = 0
        if self.position is not None:
            self.epoch, start = self.position()
        # At once: Lightning sets another epoch on a resumed run while the loader's workers are still asking.
        indices = list(super().__iter__())[start:]
        return iter([(index, item_seed(self.seed, self.epoch, index)) for index in indices])


def item_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of one item's augmentation in one epoch."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])


def run_position(trainer: Trainer, num_batches: int, batch_size: int) -> tuple[int, int]:
    """Epoch of a run, and samples of it that one rank is done with.

    Counted by the batches of the whole run, which a checkpoint carries: Lightning makes the first iterator
    before it tells the sampler an epoch, and its number of epochs skips one when a run limited by steps
    resumes.

    Args:
        trainer: trainer of the run, resumed or not.
        num_batches: batches of a whole epoch.
        batch_size: images a batch, on each process.
    """
    limit = trainer.limit_train_batches
    num_batches = min(num_batches, limit) if isinstance(limit, int) else int(num_batches * limit)
    done = trainer.fit_loop.epoch_loop.batch_progress.state_dict()["total"]["processed"]
    epoch, batches = divmod(done, max(num_batches, 1))
    return epoch, batches * batch_size
