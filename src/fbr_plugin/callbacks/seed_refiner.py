"""Predicted seeds, raised and spread over their image, and masks made from them during prediction."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor, nn

from fbr_plugin.contract import ScorePropagator, SeedPrediction
from fbr_plugin.data.dataset import photos
from fbr_plugin.errors import InputTypeError
from fbr_plugin.files import make_folder
from fbr_plugin.postprocess.pseudo_masks import ToMask, write_masks
from fbr_plugin.postprocess.seed_files import check_names
from fbr_plugin.postprocess.seeds import LabelledPixels, Seed, background_scores
from fbr_plugin.postprocess.workers import start_workers


def raised_seeds(
    model: LightningModule, prediction: Any, batch: Any, power: float
) -> Iterator[tuple[str, Seed, Tensor, NDArray[np.uint8]]]:
    """The predicted seeds of a batch, raised to a power.

    Args:
        model: whose `predict_step` made the prediction.
        prediction: a `SeedPrediction`; anything else is an error.
        batch: its images.
        power: exponent of the scores.

    Yields:
        For each image its id, its seed, the image [3, H, W], and the photo [H, W, 3] as it was read.
    """
    if not isinstance(prediction, SeedPrediction):
        raise InputTypeError(
            f"{type(model).__name__}.predict_step returned {type(prediction).__name__}: labels, masks and "
            "instances are made from seeds, a fbr_plugin.SeedPrediction"
        )
    check_names(prediction.ids)
    seeds = prediction.ids, prediction.seeds, prediction.labels
    for name, scores, label, image, photo in zip(*seeds, batch["image"], photos(batch), strict=True):
        seed = Seed.from_dense(scores, label)
        if power != 1:
            raised: NDArray[Any] = seed.scores.clip(0) ** power
            seed = seed._replace(scores=raised)
        yield name, seed, image, photo


class SeedSpreader(BasePredictionWriter):
    """Raises each predicted seed to a power and spreads it over its image, for `use` of a subclass.

    Args:
        walk: a network such as IRN, which propagates scores over their image; None leaves them unchanged.
        power: exponent applied to the seeds first, before the random walk (AMN 1.3, BAS 1.5).
        background_power: gives seeds the background (1 - best score) ** background_power, which the walk
            spreads as well (EPS 8, SEAM 6); None leaves their background as it is.
    """

    def __init__(
        self,
        walk: ScorePropagator | None = None,
        power: float = 1.0,
        background_power: float | None = None,
    ) -> None:
        super().__init__("batch")
        self.walk = walk
        self.power = power
        self.background_power = background_power

    def use(self, name: str, photo: NDArray[np.uint8], seed: Seed, device: torch.device) -> None:
        """Use the seed of an image.

        Args:
            name: the image's id.
            photo: [H, W, 3] the image as it was read.
            seed: its seed at that size.
            device: of the network.
        """
        raise NotImplementedError

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the network that propagates scores to the device of the one that predicts them."""
        super().on_predict_start(trainer, pl_module)
        if isinstance(self.walk, nn.Module):
            self.walk.to(pl_module.device).eval()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Use the seed of each image of the batch."""
        for name, seed, image, photo in raised_seeds(pl_module, prediction, batch, self.power):
            maps, power = seed.scores, self.background_power
            if power is not None:
                maps = np.concatenate([background_scores(maps, power)[None], maps])
            if self.walk is not None and len(seed.keys):
                walked = self.walk.propagate(image[None], torch.from_numpy(maps).to(image.device))
                maps = walked.cpu().numpy()
            if power is None:
                seed = seed._replace(scores=maps)
            else:
                seed = seed._replace(scores=maps[1:], background=maps[0])
            self.use(name, photo, seed, pl_module.device)


class SeedRefiner(SeedSpreader):
    """Turns each predicted seed into one or more masks, so that seeds need not be stored.

    The masks are refined along the edges of the original photos, which a batch holds as `photo`.

    Args:
        output_dir: parent of the folders of masks.
        to_mask: for each folder, the function from an image [H, W, 3] and its seed to a mask [H, W]. The file
            in the last folder marks an image as done.
        walk: see `SeedSpreader`.
        power: see `SeedSpreader`.
        workers: processes that run `to_mask`; 0 runs it in the main process.
        background_power: see `SeedSpreader`.
    """

    def __init__(
        self,
        output_dir: Path,
        to_mask: Mapping[str, ToMask],
        walk: ScorePropagator | None = None,
        power: float = 1.0,
        workers: int = 0,
        background_power: float | None = None,
    ) -> None:
        super().__init__(walk, power, background_power)
        self.output_dir = output_dir
        self.to_mask = to_mask
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._jobs: deque[Future[tuple[bool, bool]]] = deque()
        self._labelled = LabelledPixels(output_dir)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder, and start the processes."""
        super().setup(trainer, pl_module, stage)
        make_folder(self.output_dir)
        if self.workers:
            self._pool = start_workers(self.workers)

    def use(self, name: str, photo: NDArray[np.uint8], seed: Seed, device: torch.device) -> None:
        """Write one image's masks, here or in a worker; the queue is short, so that memory stays bounded."""
        job = self.output_dir, self.to_mask, name, photo, seed
        if self._pool is None:
            self._labelled.add(*write_masks(*job, device))
            return
        self._jobs.append(self._pool.submit(write_masks, *job, torch.device("cpu")))
        while len(self._jobs) > 4 * self.workers:
            self._labelled.add(*self._jobs.popleft().result())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the last masks, and warn if they are empty."""
        super().on_predict_end(trainer, pl_module)
        while self._jobs:
            self._labelled.add(*self._jobs.popleft().result())
        self._labelled.warn()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the processes."""
        super().teardown(trainer, pl_module, stage)
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
