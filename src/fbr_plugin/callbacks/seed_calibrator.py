"""A background threshold calibrated on predicted seeds of images that have masks."""

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.callbacks.seed_refiner import SeedSpreader
from fbr_plugin.contract import ScorePropagator
from fbr_plugin.data.sources import Source
from fbr_plugin.metrics import Calibration, CalibrationResult
from fbr_plugin.postprocess.seeds import Seed


class SeedCalibrator(SeedSpreader):
    """Compares the seeds with the masks of their images, both at the size on disk, as masks are made of them.

    Args:
        source: the images, with their masks.
        walk: see `SeedSpreader`.
        power: see `SeedSpreader`.
    """

    def __init__(self, source: Source, walk: ScorePropagator | None = None, power: float = 1.0) -> None:
        super().__init__(walk, power)
        self.source = source
        self.calibration = Calibration(source.num_classes)

    def use(self, name: str, photo: NDArray[np.uint8], seed: Seed, device: torch.device) -> None:
        """Count the pixels of an image at every threshold."""
        mask = self.source[self.source.ids.index(name)]["mask"]
        tensors = torch.from_numpy(seed.scores), torch.from_numpy(mask), torch.from_numpy(seed.keys)
        self.calibration.update(name, *tensors)

    def result(self) -> CalibrationResult:
        """The threshold, chosen with the images of all processes, after the prediction."""
        return self.calibration.compute()
