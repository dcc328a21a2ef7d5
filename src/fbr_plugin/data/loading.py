"""Order, augmentation seeds and exact resume: what every data module shares."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, DistributedSampler, default_collate

from fbr_plugin.data.dataset import SegmentationDataset, Stage


class EpochSampler(DistributedSampler):
    """Yields (index, seed) pairs that depend on the seed and the epoch alone.

    Neither the number of workers nor an interruption changes what an item's augmentation draws, as its seed
    comes from (seed, epoch, index). The remainder that does not fill every rank is dropped.

    Args:
        dataset: what is sampled from; only its length counts.
        seed: names the order and the augmentation of the whole run.
        epoch: epoch of the first iteration.
        start: samples of this rank that the next iteration skips, when it goes on where an interrupted epoch
            stopped. The length stays that of a whole epoch: Lightning goes on counting.
        num_replicas: number of processes.
        rank: this process.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self.epoch = epoch
        self.start = start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start, self.start = self.start, 0
        for index in list(super().__iter__())[start:]:
            yield index, item_seed(self.seed, self.epoch, index)

    def set_epoch(self, epoch: int) -> None:
        """Goes to an epoch; a position within another epoch is forgotten."""
        if epoch != self.epoch:
            self.start = 0
        super().set_epoch(epoch)


def item_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of one item's augmentation in one epoch."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Items of one size as a batch: tensors stacked, ids in a list."""
    shapes = {tuple(item["image"].shape[-2:]) for item in items}
    if len(shapes) > 1:
        raise ValueError(f"images of the sizes {sorted(shapes)} in one batch: set eval_batch_size to 1")
    return default_collate(items)


class WSSSDataModule(LightningDataModule):
    """Loaders over the datasets of a subclass, which defines `dataset(stage)` and `class_names`.

    Args:
        batch_size: images a training batch, on each process.
        eval_batch_size: images a batch elsewhere; more than 1 asks for images of one size.
        num_workers: processes that load data; 0 loads in the main one.
        seed: decides the order and the augmentation of training.
    """

    class_names: tuple[str, ...]

    def __init__(
        self, batch_size: int = 16, eval_batch_size: int = 1, num_workers: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed

    @property
    def num_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.class_names)

    def dataset(self, stage: Stage) -> SegmentationDataset:
        """The images of a stage."""
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader:
        dataset = self.dataset("fit")
        world_size = self.trainer.world_size if self.trainer else 1
        if len(dataset) < self.batch_size * world_size:
            raise ValueError(
                f"{len(dataset)} training images do not fill a batch of {self.batch_size} on {world_size} "
                "process(es): lower batch_size"
            )
        epoch, start = self._position()
        sampler = EpochSampler(
            dataset,
            seed=self.seed,
            epoch=epoch,
            start=start,
            num_replicas=world_size,
            rank=self.trainer.global_rank if self.trainer else 0,
        )
        return self._loader(dataset, self.batch_size, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.dataset("validate"), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.dataset("test"), self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader:
        return self._loader(self.dataset("predict"), self.eval_batch_size)

    def _position(self) -> tuple[int, int]:
        """Epoch and samples of it that are already done, of a run that starts or resumes.

        Lightning makes the first iterator before it tells the sampler the epoch, so that the epoch has to be
        read here. Its counters of epochs alone do not say whether the last one was finished.
        """
        if self.trainer is None:
            return 0, 0
        loop = self.trainer.fit_loop
        batches, epochs = loop.epoch_loop.batch_progress, loop.epoch_progress.state_dict()["total"]["started"]
        if batches.is_last_batch or batches.current.ready == 0:
            return epochs, 0
        return epochs - 1, batches.current.ready * self.batch_size

    def _loader(self, dataset: SegmentationDataset, batch_size: int, **kwargs: Any) -> DataLoader:
        """A loader that draws its workers' seed from a stream of its own, not from the global one."""
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            dataset,
            batch_size,
            num_workers=self.num_workers,
            collate_fn=collate,
            generator=generator,
            pin_memory=torch.cuda.is_available(),
            **kwargs,
        )
