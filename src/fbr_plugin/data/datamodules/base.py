"""Order, augmentation seeds and exact resume: what every data module shares."""

import warnings
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset, default_collate

from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.sampling import EpochSampler, run_position
from fbr_plugin.data.settings import Loading
from fbr_plugin.errors import InputError

# What differs in shape from image to image, and so stays in lists.
LISTED = ("boxes", "photo")


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Items of one size as a batch: tensors stacked; ids, boxes and photos in lists."""
    shapes = {tuple(item["image"].shape[-2:]) for item in items}
    if len(shapes) > 1:
        raise InputError(f"images of the sizes {sorted(shapes)} in one batch: set eval_batch_size to 1")
    batch = default_collate([{key: item[key] for key in item if key not in LISTED} for item in items])
    return {**batch, **{key: [item[key] for item in items] for key in LISTED if key in items[0]}}


class WSSSDataModule(LightningDataModule):
    """Loaders over the datasets of a subclass, which defines `dataset(stage)` and `class_names`.

    Args:
        loading: batches, processes and seed.
    """

    class_names: tuple[str, ...]

    def __init__(self, loading: Loading = Loading()) -> None:
        super().__init__()
        self.loading = loading

    @property
    def num_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.class_names)

    def dataset(self, stage: Stage) -> SegmentationDataset:
        """The images of a stage."""
        raise NotImplementedError

    def prepared(self, stage: Stage) -> bool:
        """Whether `prepare_data` has nothing left to make for a stage."""
        return True

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        dataset, batch_size = self.dataset("fit"), self.loading.batch_size
        world_size = self.trainer.world_size if self.trainer else 1
        if len(dataset) < batch_size * world_size:
            raise InputError(
                f"{len(dataset)} training images do not fill a batch of {batch_size} on {world_size} "
                "process(es): lower batch_size"
            )
        rank = self.trainer.global_rank if self.trainer else 0
        sampler = EpochSampler(dataset, self.loading.seed, world_size, rank)
        loader = self.loader(dataset, batch_size, sampler=sampler, drop_last=True)
        if self.trainer:
            # Lightning warns of any loader that keeps no state of its own; the sampler keeps none, it counts.
            warnings.filterwarnings("ignore", ".*your dataloader is not resumable")
            sampler.position = partial(run_position, self.trainer, len(loader), batch_size)
        return loader

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._scored("validate")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._scored("test")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self.loader(self.dataset("predict"), self.loading.eval_batch_size)

    def _scored(self, stage: Stage) -> DataLoader[dict[str, Any]]:
        """Images to score: each on one process alone, but for validation within `fit`.

        There Lightning's own sampler repeats images, as DDP waits for as many batches of every process.
        """
        dataset, trainer, sampler = self.dataset(stage), self.trainer, None
        if trainer and trainer.world_size > 1 and trainer.state.fn != TrainerFn.FITTING:
            shares = {"num_replicas": trainer.world_size, "rank": trainer.global_rank}
            sampler = UnrepeatedDistributedSampler(dataset, shuffle=False, **shares)
        return self.loader(dataset, self.loading.eval_batch_size, sampler=sampler)

    def loader(
        self, dataset: Dataset[dict[str, Any]], batch_size: int, **kwargs: Any
    ) -> DataLoader[dict[str, Any]]:
        """A loader that draws its workers' seed from a stream of its own, not from the global one."""
        generator = torch.Generator().manual_seed(self.loading.seed)
        return DataLoader(
            dataset,
            batch_size=batch_size,  # by name: Lightning replaces it when it rebuilds the loader
            num_workers=self.loading.num_workers,
            collate_fn=collate,
            generator=generator,
            pin_memory=torch.cuda.is_available(),
            **kwargs,
        )
