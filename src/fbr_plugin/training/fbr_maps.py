"""Maps of what FBR makes of each predicted image: where the gate lowers a class, and the NROIs."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.hooks import RemovableHandle

from fbr_plugin.contract import SeedPrediction
from fbr_plugin.data.readers.images import write_mask
from fbr_plugin.errors import WarnOnce
from fbr_plugin.functional import lowered_classes
from fbr_plugin.postprocess.seed_files import check_names
from fbr_plugin.training.mixin import FBRMixin

GATE, NROI = "gate", "nroi"  # the kinds; each has a folder
MOST = 254  # NROIs of an image, which a byte numbers


class FBRMaps(Callback):
    """Writes what FBR makes of each predicted image, which `fbr-plugin browse` shows beside its seed.

    `gate/ID.gate.png` has the class of the image that the gate lowers most, where it lowers one by more than
    half, and 0 elsewhere. It is that of the first view that is predicted: for the baselines supplied, the
    image at the first of the scales. `nroi/ID.nroi.png` numbers the clusters of the background from 1, with 0
    on objects. It is written where FBR's losses are on, and takes a forward pass of its own: see
    `FBRMixin.inspect`.

    If that fails, a single warning is given and the prediction continues.

    Args:
        output_dir: parent of the two folders.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self._gate: Tensor | None = None
        self._hook: RemovableHandle | None = None
        self._warn = WarnOnce()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to listen to the gate."""
        super().on_predict_start(trainer, pl_module)
        if isinstance(pl_module, FBRMixin) and pl_module.gate is not None:
            self._hook = pl_module.gate.register_forward_hook(self._keep)

    def on_predict_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Forget the gate of the batch before."""
        super().on_predict_batch_start(*args, **kwargs)
        self._gate = None

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        *args: Any,
    ) -> None:
        """Write the maps of a batch."""
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, *args)
        if not isinstance(pl_module, FBRMixin) or not isinstance(outputs, SeedPrediction):
            return
        check_names(outputs.ids)
        try:
            if self._gate is not None:
                self._write(GATE, lowered_classes(self._gate, outputs.labels), outputs)
            if (terms := pl_module.inspect(batch)) is not None:
                self._write(NROI, (terms.assignments + 1).clamp_max(MOST), outputs)
        except Exception as error:
            self._warn(f"maps of what FBR makes of an image cannot be written: {error!r}")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop listening."""
        super().on_predict_end(trainer, pl_module)
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        super().on_exception(trainer, pl_module, exception)
        self._stop()

    def _keep(self, gate: Any, inputs: Any, output: Tensor) -> None:
        """Keep what the gate puts out for the first view of a batch."""
        if self._gate is None:
            self._gate = output

    def _stop(self) -> None:
        self._gate = None
        if self._hook is not None:
            self._hook.remove()

    def _write(self, kind: str, maps: Tensor, outputs: SeedPrediction) -> None:
        """Write maps [B, h, w] at the sizes of the seeds."""
        for name, own, seed in zip(outputs.ids, maps, outputs.seeds, strict=True):
            write_fbr_map(self.output_dir, kind, name, own, (seed.shape[-2], seed.shape[-1]))


def write_fbr_map(folder: Path, kind: str, name: str, numbers: Tensor, size: tuple[int, int]) -> None:
    """Write a map as `KIND/ID.KIND.png`, which is not mistaken for a mask; it takes the nearest pixels.

    Args:
        folder: parent of the folders of maps.
        kind: `GATE` or `NROI`.
        name: the image's id.
        numbers: [h, w] integers, 0 to 254.
        size: height and width of the image.
    """
    full = interpolate(numbers[None, None].float(), size, mode="nearest-exact")[0, 0]
    write_mask(folder / kind / f"{name}.{kind}.png", full.byte().cpu().numpy())
