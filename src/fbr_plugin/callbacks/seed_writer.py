"""Files of predicted seeds, masks or instances, one per image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter

from fbr_plugin.contract import MaskPrediction, SeedPrediction, SeedStyle
from fbr_plugin.data.instances.files import instances_path, write_instances
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.errors import InputError, InputTypeError, check_label_thresholds
from fbr_plugin.files import make_folder
from fbr_plugin.instances import InstancePrediction
from fbr_plugin.postprocess.seed_files import check_names, seed_path, write_seed
from fbr_plugin.postprocess.seeds import LabelledPixels, Seed, kinds_of, threshold_labels


class SeedWriter(BasePredictionWriter):
    """Writes what is predicted of each batch at once, so that a set need not fit into memory.

    `predict_step` returns a `SeedPrediction`; a `MaskPrediction`, whose masks become palette PNGs `ID.png`;
    or an `InstancePrediction`, whose instances become `ID.json`. Every process writes its own images; an
    image that a distributed sampler repeats is overwritten with the same content.

    Args:
        output_dir: folder of the files, created if missing.
        format: layout of the seed files: `irn` (also BAS's), `amn` or `seam` (also PPC's) for `ID.npy`, or
            `compact` for `ID.npz`, compressed and in half precision, about a third of the size. None uses
            the prediction's `style`, else AMN's if the background has its own scores, else IRN's.
        thresholds: FG and BG, to write label images `ID.png` instead of seeds: the class where a score
            exceeds FG, 0 where none exceeds BG, 255 in between.
    """

    def __init__(
        self,
        output_dir: str | Path,
        format: SeedStyle | None = None,
        thresholds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__("batch")
        if thresholds is not None:
            check_label_thresholds(*thresholds)
        self.output_dir = Path(output_dir)
        self.format = format
        self.thresholds = thresholds
        self._labelled = LabelledPixels(self.output_dir)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder, before anything is computed."""
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            make_folder(self.output_dir)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of thresholds that leave nothing."""
        super().on_predict_end(trainer, pl_module)
        self._labelled.warn()

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
        """Write one file for each image of the batch."""
        match prediction:
            case SeedPrediction():
                check_names(prediction.ids)
                self._write_seeds(prediction)
            case MaskPrediction() | InstancePrediction():
                check_names(prediction.ids)
                self._write_results(prediction, type(pl_module).__name__)
            case _:
                raise InputTypeError(
                    f"{type(pl_module).__name__}.predict_step returned {type(prediction).__name__}: to "
                    "write files, it must return a SeedPrediction, a MaskPrediction or an InstancePrediction "
                    "of fbr_plugin"
                )

    def _write_results(self, prediction: MaskPrediction | InstancePrediction, model: str) -> None:
        if self.format is not None or self.thresholds is not None:
            raise InputError(f"{model} predicts no seeds: leave out format and thresholds")
        if isinstance(prediction, InstancePrediction):
            for name, instances in zip(prediction.ids, prediction.instances, strict=True):
                write_instances(instances_path(self.output_dir, name), instances)
            return
        for name, mask in zip(prediction.ids, prediction.masks, strict=True):
            write_mask(self.output_dir / f"{name}.png", mask.cpu().numpy())

    def _write_seeds(self, prediction: SeedPrediction) -> None:
        for name, scores, label in zip(prediction.ids, prediction.seeds, prediction.labels, strict=True):
            seed = Seed.from_dense(scores, label)
            if self.thresholds is None:
                usual: SeedStyle = "irn" if seed.background is None else "amn"
                style = self.format or prediction.style or usual
                write_seed(seed_path(self.output_dir, name, style), seed, style)
            else:
                labels = threshold_labels(seed, *self.thresholds)
                self._labelled.add(*kinds_of(labels))
                write_mask(self.output_dir / f"{name}.png", labels)
