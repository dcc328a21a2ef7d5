"""FBR for a LightningModule, by inheritance."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from fbr_plugin.callbacks.exact_resume import ExactResume
from fbr_plugin.config import FBRConfig, GateConfig
from fbr_plugin.contract import DenseView, FBRTerms, GateTerms, ViewShape
from fbr_plugin.errors import InputAttributeError, InputError, InputTypeError, UsageError
from fbr_plugin.modules import ClassAwareGate, FBRLoss, gate_scores
from fbr_plugin.presets import resolve
from fbr_plugin.training.captured_steps import CapturedSteps
from fbr_plugin.training.optimizers import add_parameters, find_optimizers


class FBRMixin(CapturedSteps):
    """Adds FBR to a baseline: `class AMNFBR(FBRMixin, AMN): ...`, with the mixin first.

    A baseline takes part as `fbr_plugin.Baseline` says: it has a `view_shape`, and returns its views from
    `training_step` when `self.wants_views` is true. One that cannot be edited gets its `view_shape` in the
    class of the variant, and takes part by an overridden `dense_views`, for which `capture` keeps the outputs
    of submodules. The baseline's loss is computed as before, and the mean of the views' FBR terms is added.

    Args:
        fbr: the losses: "recommended" leaves them out, "amn" and "ppc" are as published; a mapping of single
            fields, with a preset beside them, as in {"preset": "amn", "dim": 64}; or a whole `FBRConfig`. A
            class with another default repeats the argument.
        gate: the class-aware gate: a mapping of single fields, or a whole `GateConfig`. By default it is on
            where the losses are off, and off where they are on.
        global_batch: whether several processes compute losses and gate on the images of all, as one process
            would on the whole batch. By default each takes its own, and only the memory banks are shared.

    Attributes:
        published: the baseline's own published preset.
        fbr: the losses; None where they are not enabled.
        gate: the class-aware gate; None where it is not enabled.
        fbr_terms: terms of the last step's first view, detached.
        gate_terms: the same of the gate.

    Raises:
        AttributeError: the baseline has no `view_shape`.
        TypeError: the mixin does not stand before the baseline.
    """

    wants_views: bool = True
    published: ClassVar[str] = "amn"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if nn.Module in order and order.index(nn.Module) < order.index(FBRMixin):
            bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not FBRMixin)
            raise InputTypeError(f"the mixin comes first: class {cls.__name__}(FBRMixin, {bases})")

    def __init__(
        self,
        *args: Any,
        fbr: str | dict[str, Any] | FBRConfig = "recommended",
        gate: dict[str, Any] | GateConfig | None = None,
        global_batch: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        losses, lowers = resolve(type(self), fbr, gate)
        # The one look at a class that may not be ours: a user's module need not inherit from Baseline.
        shape = getattr(self, "view_shape", None)
        if not isinstance(shape, ViewShape):
            raise InputAttributeError(
                f"{type(self).__name__} needs the sizes of its views: set view_shape = "
                "ViewShape(channels=..., num_classes=...) in the class, or in the baseline's constructor"
            )
        self.fbr = FBRLoss(shape, losses, global_batch) if losses.enabled else None
        self.gate = ClassAwareGate(shape, lowers, global_batch) if lowers.enabled else None
        self.fbr_terms: FBRTerms | None = None
        self.gate_terms: GateTerms | None = None
        # Plain types: a checkpoint with a dataclass in it would not load under weights_only.
        settings = {"fbr": asdict(losses), "gate": asdict(lowers), "global_batch": global_batch}
        self.save_hyperparameters(settings)
        # Every rank keeps the same memory; broadcasting it would cost its size at each step.
        self._ddp_params_and_buffers_to_ignore = [
            *getattr(self, "_ddp_params_and_buffers_to_ignore", []),
            *(name for name, _ in self.named_buffers() if name in {*self._memory()}),
        ]

    def dense_views(self, batch: Any, outputs: Any) -> list[DenseView]:
        """The views of a training step; by default those that the baseline returned.

        Args:
            batch: of `training_step`.
            outputs: what the baseline's `training_step` returned.
        """
        if not isinstance(outputs, dict) or "views" not in outputs:
            raise InputTypeError(
                f"{type(self).__name__}: training_step must return {{'loss': ..., 'views': [DenseView, "
                f"...]}} when self.wants_views is true, got {type(outputs).__name__}; or override "
                "dense_views(batch, outputs)"
            )
        views: list[DenseView] = outputs["views"]
        return views

    def gate_scores(self, scores: Tensor, levels: Sequence[Tensor], logits: bool = False) -> Tensor:
        """Lower scores by the class-aware gate, where there is one: see `fbr_plugin.gate_scores`."""
        return scores if self.gate is None else gate_scores(self.gate, scores, levels, logits)

    def match_seeds(self, seeds: Tensor) -> Tensor:
        """Give gated seeds the distribution of ungated ones: see `ClassAwareGate.match`."""
        return seeds if self.gate is None else self.gate.match(seeds)

    @torch.no_grad()
    def inspect(self, batch: Any) -> FBRTerms | None:
        """The losses' terms of a batch's first view, such as its NROIs, outside training.

        Nothing is learned and nothing is logged. The views are those of the baseline's `training_step`, so
        the batch must hold what that needs.

        Args:
            batch: of `training_step`, or of `predict_step` where it is enough.

        Returns:
            None without the losses, and for a step without views.
        """
        if self.fbr is None:
            return None
        if self.training:
            raise UsageError("inspect learns nothing: call eval() first")
        self.log = lambda *_, **__: None
        try:
            with self.captures.step():
                views = self.dense_views(batch, super().training_step(batch, 0))
        finally:
            self.captures.clear()
            del self.log
        return self.fbr(views[0]) if views else None

    def training_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """The baseline's step, with FBR's terms added to its loss."""
        try:
            with self.captures.step():
                outputs = super().training_step(batch, batch_idx, *args, **kwargs)
                if outputs is None:
                    raise InputTypeError(
                        f"{type(self).__name__}: training_step returned None; FBR adds to the loss that it "
                        "returns, so manual optimization and skipped steps are not supported"
                    )
                views = self.dense_views(batch, outputs)
        finally:
            self.captures.clear()
        total = self._losses(views)
        self._learn(views)
        if isinstance(outputs, Tensor):
            return outputs + total
        # The views must not reach Lightning: they would keep the graph alive beyond the step.
        return {**{key: outputs[key] for key in outputs if key != "views"}, "loss": outputs["loss"] + total}

    def configure_optimizers(self) -> Any:
        """The baseline's optimizers, with FBR's parameters in the first of them."""
        configured = super().configure_optimizers()
        add_parameters(configured, self._trained())
        return configured

    def configure_callbacks(self) -> list[Callback]:
        """The baseline's callbacks, and the one that makes a resumed run draw what it would have drawn."""
        callbacks = super().configure_callbacks()
        return [*(callbacks if isinstance(callbacks, Sequence) else [callbacks]), ExactResume()]

    def on_train_start(self) -> None:
        """Check that FBR's parameters are trained."""
        super().on_train_start()
        groups = [group for each in find_optimizers(self.trainer.optimizers) for group in each.param_groups]
        optimized = {id(parameter) for group in groups for parameter in group["params"]}
        if not all(id(parameter) in optimized for parameter in self._trained()):
            raise InputError(
                f"{type(self).__name__}: FBR's parameters are in no optimizer. In configure_optimizers, "
                "after the optimizer is built, write: "
                "optimizer.param_groups[-1]['params'].extend(self.fbr.parameters())"
            )

    def on_train_epoch_end(self) -> None:
        """Warn of steps that FBR skipped, and log their number; without any there is nothing to see."""
        super().on_train_epoch_end()
        for group, part in (("fbr", self.fbr), ("gate", self.gate)):
            if part is not None and (count := part.skipped.warn()):
                self.log(f"{group}/skipped", float(count))

    def on_test_epoch_end(self) -> None:
        """Warn of a gate that was not used."""
        super().on_test_epoch_end()
        self._warn_if_not_gated()

    def on_predict_epoch_end(self) -> None:
        """Warn of a gate that was not used."""
        super().on_predict_epoch_end()
        self._warn_if_not_gated()

    def _losses(self, views: Sequence[DenseView]) -> Tensor | float:
        """The mean over the views of FBR's weighted terms."""
        if self.fbr is None or not views:
            return 0.0
        terms: list[FBRTerms] = [self.fbr(view, index) for index, view in enumerate(views)]
        self.fbr_terms = FBRTerms(*(value.detach() for value in terms[0]))
        self._log_means("fbr", terms, self.fbr.config.disabled_terms())
        return sum(term.total for term in terms) / len(terms)

    def _learn(self, views: Sequence[DenseView]) -> None:
        """Let the gate learn from the views."""
        if self.gate is None or not views:
            return
        terms = [self.gate.update(view, index) for index, view in enumerate(views)]
        self.gate_terms = terms[0]
        self._log_means("gate", terms)

    def _log_means(self, group: str, terms: Sequence[Any], disabled: Sequence[str] = ()) -> None:
        """Log every term that is a number and not disabled, as its mean over the views.

        One of them is in the progress bar.
        """
        for name, *values in zip(terms[0]._fields, *terms, strict=True):
            if name not in ("finite", *disabled) and not values[0].dim():
                mean = sum(value.detach().float() for value in values) / len(values)
                self.log(f"{group}/{name}", mean, prog_bar=name in ("total", "mean_gate"))

    def _parts(self) -> list[FBRLoss | ClassAwareGate]:
        """The losses and the gate, as far as there are any."""
        return [part for part in (self.fbr, self.gate) if part is not None]

    def _trained(self) -> list[nn.Parameter]:
        return [each for part in self._parts() for each in part.parameters() if each.requires_grad]

    def _memory(self) -> Iterator[str]:
        """The names of the buffers that every process keeps by itself."""
        if self.fbr is not None:
            yield from (f"fbr.{name}" for name, _ in self.fbr.named_buffers() if "classifier" not in name)
        if self.gate is not None:
            yield from (f"gate.{name}" for name, _ in self.gate.named_buffers())

    def _warn_if_not_gated(self) -> None:
        if self.gate is not None and not self.gate.used:
            self.gate.used = True
            rank_zero_warn(
                f"{type(self).__name__} has the class-aware gate, but it did not lower any scores: where the "
                "model predicts, call scores = self.gate_scores(scores, levels)"
            )
