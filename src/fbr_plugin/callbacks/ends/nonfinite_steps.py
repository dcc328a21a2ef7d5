"""Training steps whose gradients are NaN or infinite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from fbr_plugin.distributed import all_gather_object, is_rank_zero
from fbr_plugin.errors import InputError, NonFiniteError, WarnOnce
from fbr_plugin.files import write_text

FILE = "nonfinite_images.txt"


class Step(NamedTuple):
    """A step that has not been read from the device.

    Attributes:
        ids: of this process's images.
        finite: 0-d bool.
    """

    ids: list[str]
    finite: Tensor


class NonFiniteSteps(Callback):
    """Skips steps whose gradients are not finite, as after a loss of NaN, and stops after many in a row.

    The gradients of such a step are set to 0, and the running statistics of normalisation layers to what they
    were before it. So weights stay finite, while the optimizer's momentum and weight decay act on. Gradients
    are judged after they have been added over the processes, which therefore agree. The number of skipped
    steps is logged as `skipped_steps` once there is one.

    On a GPU this is read every `log_every_n_steps` steps, as reading waits for the GPU. Steps that the
    GradScaler of `16-mixed` skips are counted as well.

    Args:
        limit: steps in a row after which the training stops. The ids of the last one's images are written to
            `nonfinite_images.txt` in the run's folder.

    Raises:
        FloatingPointError: this many steps in a row were not finite.
    """

    def __init__(self, limit: int = 20) -> None:
        if limit < 1:
            raise InputError(f"limit must be at least 1 step, got {limit}")
        self.limit = limit
        self.skipped = self._in_a_row = 0
        self._ids: list[str] | None = None
        self._steps: list[Step] = []
        self._statistics: list[Tensor] = []
        self._before: list[Tensor] = []
        self._warn = WarnOnce()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the running statistics."""
        super().on_train_start(trainer, pl_module)
        norms = (module for module in pl_module.modules() if isinstance(module, _NormBase))
        both = (each for norm in norms for each in (norm.running_mean, norm.running_var))
        self._statistics = [each for each in both if each is not None]
        self._ids, self._steps = None, []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the running statistics before a step, and the ids of its images."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self._ids is None:  # not within the batches of one step
            self._ids = []
            self._before = [each.clone() for each in self._statistics]
        known = batch.get("id") if isinstance(batch, Mapping) else None
        self._ids += known or [f"batch {batch_idx} of epoch {trainer.current_epoch}"]

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Set gradients and statistics of a step that is not finite; nothing here waits for the device."""
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        finite = clip_grad_norm_(parameters, torch.inf).isfinite()  # nothing is clipped: this is the norm
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~finite, 0)
        for value, before in zip(self._statistics, self._before, strict=True):
            value.copy_(torch.where(finite, value, before))
        self._steps.append(Step(self._ids or [], finite))
        self._ids = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count skipped steps now and then, log their number, and stop after the limit."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set, but not declared
        if len(self._steps) >= (1 if pl_module.device.type == "cpu" else max(every, 1)):
            last = self._count()
            if self._in_a_row >= self.limit:
                self._stop(trainer, last)
        if self.skipped:
            pl_module.log("skipped_steps", float(self.skipped))

    def state_dict(self) -> dict[str, int]:
        """The counts."""
        self._count()
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue the counts of a resumed training."""
        super().load_state_dict(state_dict)
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def _count(self) -> list[str]:
        """Read the steps from the device and count them; the ids of the last that was skipped."""
        steps, self._steps = self._steps, []
        last: list[str] = []
        for step, finite in zip(steps, _read([step.finite for step in steps]), strict=True):
            self.skipped += not finite
            self._in_a_row = 0 if finite else self._in_a_row + 1
            last = last if finite else step.ids
        if last:
            self._warn(
                f"A step had gradients that are not finite and was skipped; its images were {last[:20]}. "
                "If this goes on, lower the learning rates; the training stops after "
                f"{self.limit} steps in a row."
            )
        return last

    def _stop(self, trainer: Trainer, ids: list[str]) -> None:
        path = Path(trainer.log_dir or trainer.default_root_dir) / FILE
        every = [name for part in all_gather_object(ids) for name in part]
        if is_rank_zero():
            write_text(path, "\n".join(every) + "\n")
        precision = str(trainer.precision)
        mixed = "" if "32" in precision else f", or train in float32 instead of {precision}"
        raise NonFiniteError(
            f"the gradients of {self._in_a_row} steps in a row were not finite: lower the learning rates"
            f"{mixed}; the images of the last of them are in {path}"
        )


def _read(flags: list[Tensor]) -> list[bool]:
    """The values of 0-d tensors, read at once."""
    values: list[bool] = torch.stack(flags).tolist() if flags else []
    return values
