"""The base of all data modules: sampling order, augmentation seeds and exact resume."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset, default_collate

from fbr_plugin.contract import NamedClasses
from fbr_plugin.data.dataset import SegmentationDataset, Stage
from fbr_plugin.data.instances.sources import PseudoInstances, TruthStages
from fbr_plugin.data.readers.labels import read_ids
from fbr_plugin.data.sampling import EpochSampler, run_position
from fbr_plugin.data.settings import Loading
from fbr_plugin.data.sources import ListedSource
from fbr_plugin.errors import InputError, MissingFileError

# Values whose shape differs from image to image, so that a batch keeps them in lists.
LISTED = ("boxes", "instances", "object_mask", "photo")


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Batch items of one size: stack tensors; keep ids and what differs in shape in lists."""
    shapes = {tuple(item["image"].shape[-2:]) for item in items}
    if len(shapes) > 1:
        raise InputError(f"a batch has images of the sizes {sorted(shapes)}: set eval_batch_size to 1")
    batch = default_collate([{key: item[key] for key in item if key not in LISTED} for item in items])
    return {**batch, **{key: [item[key] for item in items] for key in LISTED if key in items[0]}}


def running_data(trainer: Trainer) -> LightningDataModule | None:
    """The data module of a Trainer's current run; None where it was given loaders."""
    data: LightningDataModule | None = trainer.datamodule  # type: ignore[attr-defined]  # set, but not declared
    return data


def class_names(trainer: Trainer, number: int) -> Sequence[str]:
    """The foreground classes of a Trainer's data module, or as many numbers if it names none."""
    data = running_data(trainer)
    return data.class_names if isinstance(data, NamedClasses) else [f"class {c + 1}" for c in range(number)]


class WSSSDataModule(LightningDataModule):
    """Data loaders for the datasets of a subclass, which defines `dataset(stage)` and `class_names`.

    Args:
        loading: batch sizes, worker processes and seed.

    Attributes:
        calibrate: list of images whose masks choose the background threshold, for `calibration`; set by
            `--calibrate`. Only these images need masks then.
        instances: stages that read true instances; a subclass with instances sets it.
        pseudo_instance_dir: folder of pseudo instances `ID.json`, which take the place of true ones in
            training; a subclass with instances sets it.
    """

    class_names: tuple[str, ...]
    calibrate: str = ""
    instances: TruthStages = "none"
    pseudo_instance_dir: str | Path | None = None

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

    def check_files(self, dataset: SegmentationDataset, stage: Stage) -> None:
        """Raise if a file of a stage does not exist; none is opened."""

    def calibration(self) -> SegmentationDataset:
        """The images of the list `calibrate`, in the form of prediction, with their masks.

        Raises:
            ValueError: the list has fewer than two images, or one that is unknown.
            FileNotFoundError: there is no list, or no mask of an image.
        """
        known, ids = self.dataset("predict"), self.calibration_ids()
        source = ListedSource(ids, known.source, self.dataset("test").source)
        self.check_calibration([name for index, name in enumerate(ids) if "mask" not in source[index]])
        return SegmentationDataset(source, known.transform, False, known.pseudo_label_dir)

    def calibration_ids(self) -> list[str]:
        """The ids of the list `calibrate`, each once."""
        ids = list(dict.fromkeys(self.listed(self.calibrate)))
        if len(ids) < 2:
            raise InputError(
                f"the calibration list {self.calibrate} has {len(ids)} image: give at least 2, better 20"
            )
        return ids

    def check_calibration(self, missing: list[str]) -> None:
        """Raise if images of the list `calibrate` have no mask."""
        if missing:
            raise MissingFileError(
                f"{len(missing)} images of the calibration list {self.calibrate} have no mask, the first is "
                f"{missing[0]}: draw their masks, or take them off the list"
            )

    def listed(self, name: str) -> list[str]:
        """The ids of a list, here of a text file."""
        return read_ids(Path(name))

    def reads_truth(self, stage: Stage) -> bool:
        """Whether a stage reads true instances."""
        if stage == "fit":
            return self.instances == "all" and self.pseudo_instance_dir is None
        return self.instances != "none" and stage != "predict"

    def pseudo_instances(self, stage: Stage, ids: list[str]) -> PseudoInstances | None:
        """The pseudo instances of a stage's images; None without any, as outside training."""
        if stage != "fit" or self.pseudo_instance_dir is None:
            return None
        return PseudoInstances(self.pseudo_instance_dir, ids, self.num_classes)

    def prepared(self, stage: Stage) -> bool:
        """Whether `prepare_data` has nothing left to do for a stage."""
        return True

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        dataset, batch_size = self.dataset("fit"), self.loading.batch_size
        self.check_files(dataset, "fit")
        world_size = self.trainer.world_size if self.trainer else 1
        if len(dataset) < batch_size * world_size:
            raise InputError(
                f"{len(dataset)} training images do not fill a batch of {batch_size} on {world_size} "
                "process(es): lower batch_size"
            )
        if self.pseudo_instance_dir is not None or self.reads_truth("fit"):
            dataset.check_instances()
        rank = self.trainer.global_rank if self.trainer else 0
        sampler = EpochSampler(dataset, self.loading.seed, world_size, rank)
        loader = self.loader(dataset, batch_size, sampler=sampler, drop_last=True)
        if self.trainer:
            # Lightning warns about loaders without state. This sampler needs none: it counts batches.
            warnings.filterwarnings("ignore", ".*your dataloader is not resumable")
            sampler.position = partial(run_position, self.trainer, len(loader), batch_size)
        return loader

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._scored("validate")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        return self._scored("test")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        dataset = self.dataset("predict")
        self.check_files(dataset, "predict")
        return self.loader(dataset, self.loading.eval_batch_size)

    def _scored(self, stage: Stage) -> DataLoader[dict[str, Any]]:
        """Images to score: each on one process alone, but for validation within `fit`.

        There, Lightning's own sampler repeats images, since DDP needs equally many batches on every process.
        """
        dataset, trainer, sampler = self.dataset(stage), self.trainer, None
        self.check_files(dataset, stage)
        if trainer and trainer.world_size > 1 and trainer.state.fn != TrainerFn.FITTING:
            shares = {"num_replicas": trainer.world_size, "rank": trainer.global_rank}
            sampler = UnrepeatedDistributedSampler(dataset, shuffle=False, **shares)
        return self.loader(dataset, self.loading.eval_batch_size, sampler=sampler)

    def loader(
        self, dataset: Dataset[dict[str, Any]], batch_size: int, **kwargs: Any
    ) -> DataLoader[dict[str, Any]]:
        """A loader whose worker seeds come from their own random stream, not from the global one."""
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
