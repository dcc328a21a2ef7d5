"""Writing what `predict` yields, image by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter

from fbr_plugin.data.images import write_mask
from fbr_plugin.pipeline.maps import Seed, SeedStyle, threshold_labels, write_seed


class SeedWriter(BasePredictionWriter):
    """Writes the seeds of each predicted batch at once, so that a set of seeds need not fit into memory.

    `predict_step` returns a dictionary of `id`: B names, `seed`: B score maps at the image's size, [C, H, W]
    or with the background first [1+C, H, W], `label`: [B, C], and maybe `format`. Every process writes its
    own images; one that a distributed sampler repeats is replaced by the same content.

    Args:
        output_dir: folder of the files, made if missing.
        format: layout of the seed files `ID.npy`: IRN's (also BAS's), AMN's or SEAM's (also PPC's); None
            takes the `format` of the prediction, else AMN's where the background has scores of its own, else
            IRN's.
        thresholds: FG and BG; given, label images `ID.png` are written instead of seeds: the class where a
            score exceeds FG, 0 where none exceeds BG, 255 in between.
    """

    def __init__(
        self,
        output_dir: str | Path,
        format: SeedStyle | None = None,
        thresholds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__("batch")
        self.output_dir = Path(output_dir)
        self.format = format
        self.thresholds = thresholds

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
        if not isinstance(prediction, dict) or not {"id", "seed", "label"} <= prediction.keys():
            found = list(prediction) if isinstance(prediction, dict) else type(prediction).__name__
            raise TypeError(
                f"{type(pl_module).__name__}.predict_step returned {found}: to have its seeds written it "
                "must return {'id': ..., 'seed': ..., 'label': ...}"
            )
        names, maps, labels = prediction["id"], prediction["seed"], prediction["label"]
        for name, scores, label in zip(names, maps, labels, strict=True):
            if {"/", "\\"} & set(name):
                raise ValueError(f"the id {name!r} holds a path, but it names a file: rename the image")
            seed = Seed.from_dense(scores, label)
            if self.thresholds is None:
                usual: SeedStyle = "irn" if seed.background is None else "amn"
                style = self.format or prediction.get("format", usual)
                write_seed(self.output_dir / f"{name}.npy", seed, style)
            else:
                write_mask(self.output_dir / f"{name}.png", threshold_labels(seed, *self.thresholds))
