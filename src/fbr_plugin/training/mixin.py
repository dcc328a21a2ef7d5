"""FBR for a LightningModule, by inheritance."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from fbr_plugin.callbacks.random_state import RandomState
from fbr_plugin.config import FBRConfig, merged
from fbr_plugin.contract import SCALARS, DenseView, FBRTerms
from fbr_plugin.modules import FBRLoss

# A plain class at run time, so that it mixes into any LightningModule; a LightningModule to a type checker.
_Module: Any = LightningModule if TYPE_CHECKING else object


class capture:
    """Keep the output of a submodule during a training step, for `FBRMixin.dense_views`.

    Declared in the class body, read as an attribute::

        class MineFBR(FBRMixin, Mine):
            features = capture("encoder.layer4")

            def dense_views(self, batch, outputs):
                return [DenseView(self.features, self.classifier(self.features), batch["label"])]

    A submodule that runs several times in a step leaves its last output.

    Args:
        path: dotted path of the submodule, as in `named_modules`.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        try:
            return module._captured[self.path]
        except KeyError:
            raise RuntimeError(
                f"nothing was captured from {self.path!r}: read it in dense_views, and check that "
                "training_step runs that submodule"
            ) from None

    def register(self, module: nn.Module, captured: dict[str, Any]) -> Any:
        """Hook the submodule of `module` so that its outputs land in `captured`; returns the handle."""
        try:
            target = module.get_submodule(self.path)
        except AttributeError as error:
            names = ", ".join(name for name, _ in module.named_children())
            raise AttributeError(
                f"capture({self.path!r}): {type(module).__name__} has no such submodule; it has {names}"
            ) from error
        return target.register_forward_hook(
            lambda _module, _args, output: captured.update({self.path: output})
        )


def gate_scores(module: Any, scores: Tensor, levels: Sequence[Tensor], logits: bool = False) -> Tensor:
    """Lower scores by the class-aware gate of a module; where it has none they stay as they are.

    A baseline calls it where it predicts, and is itself without FBR::

        maps = gate_scores(self, self.classifier(features), [features])

    Args:
        module: the baseline, with FBR or without.
        scores: maps [B, n*C, h, w] that are not negative, n of each class; or logits [B, 1+C, h, w].
        levels: feature maps [B, L_j, h_j, w_j] of the same images, those that the module's views have as
            `levels`, or [features] where these have none.
        logits: scores are logits, with the background first: the gate's logarithm is added.

    Returns:
        In the shape of scores.
    """
    gate = module.class_gate(levels, scores.shape[-2:]) if hasattr(module, "class_gate") else None
    if gate is None:
        return scores
    if logits:
        return torch.cat([scores[:, :1], scores[:, 1:] + gate.log()], 1)
    return scores * gate.repeat(1, scores.shape[1] // gate.shape[1], 1, 1)


class FBRMixin(_Module):
    """Adds FBR to a baseline: `class AMNFBR(FBRMixin, AMN): ...`, with the mixin first.

    The baseline takes part by returning ``{"loss": ..., "views": [DenseView, ...]}`` from `training_step`
    when `self.wants_views` is true. One that cannot be edited takes part by an overridden `dense_views`, for
    which `capture` keeps the outputs of submodules. The baseline's loss is computed as before and the mean of
    the views' FBR terms is added.

    The baseline must have `feature_channels` (channels of the features) and `num_classes` (foreground
    classes), set by its constructor or as class attributes, and may have `num_views` (1 unless set) and,
    where its views have levels, `level_channels` (channels of all of them together). For the class-aware
    gate (`FBRConfig.gate`) it hands its scores to `gate_scores` where it predicts.

    Args:
        fbr: FBR's settings, an `FBRConfig`, or a mapping of the fields that differ from the class's
            `default_fbr`; None takes that as it is.

    Raises:
        AttributeError: the baseline has no `feature_channels` or `num_classes`.
        TypeError: the mixin does not stand before the baseline.
    """

    default_fbr: ClassVar[FBRConfig] = FBRConfig()
    wants_views: bool = True
    num_views: int = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if LightningModule in order and order.index(LightningModule) < order.index(FBRMixin):
            bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not FBRMixin)
            raise TypeError(f"the mixin comes first: class {cls.__name__}(FBRMixin, {bases})")

    def __init__(self, *args: Any, fbr: FBRConfig | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = merged(self.default_fbr, fbr)
        missing = [name for name in ("feature_channels", "num_classes") if getattr(self, name, None) is None]
        if missing:
            raise AttributeError(
                f"{type(self).__name__} must set {' and '.join(missing)}: FBR needs feature_channels "
                "(channels of the encoder's features) and num_classes (foreground classes), set in the "
                "baseline's constructor or as class attributes"
            )
        levels = getattr(self, "level_channels", None)
        self.fbr = FBRLoss(self.feature_channels, self.num_classes, config, self.num_views, levels)
        # What the figures show: the last step's terms of the first view, detached.
        self.fbr_terms: FBRTerms | None = None
        self._captured: dict[str, Any] = {}
        self._gate_asked = self.fbr.gate is None
        # Plain types: a checkpoint with a dataclass in it would not load under weights_only.
        self.save_hyperparameters({"fbr": asdict(config)})
        # Every rank fills its bank with the same rows; broadcasting it would cost its size at each step.
        self._ddp_params_and_buffers_to_ignore = [
            *getattr(self, "_ddp_params_and_buffers_to_ignore", []),
            *(f"fbr.banks.{name}" for name, _ in self.fbr.banks.named_buffers()),
            "fbr.skipped",
            *(f"fbr.gate.{name}" for name, _ in (self.fbr.gate or nn.Module()).named_buffers()),
        ]

    def dense_views(self, batch: Any, outputs: Any) -> list[DenseView]:
        """The views of a training step; by default those that the baseline returned.

        Args:
            batch: of `training_step`.
            outputs: what the baseline's `training_step` returned.
        """
        if not isinstance(outputs, dict) or "views" not in outputs:
            raise TypeError(
                f"{type(self).__name__}: training_step must return {{'loss': ..., 'views': [DenseView, "
                f"...]}} when self.wants_views is true, got {type(outputs).__name__}; or override "
                "dense_views(batch, outputs)"
            )
        return outputs["views"]

    def class_gate(self, levels: Sequence[Tensor], grid: Sequence[int] | None = None) -> Tensor | None:
        """The class-aware gate of an image's feature levels [B, L_j, h_j, w_j]: [B, C, h, w], or None.

        Args:
            levels: those that its views had.
            grid: h and w; None takes the last level's.
        """
        self._gate_asked = True
        return None if self.fbr.gate is None else self.fbr.gate(levels, grid)

    def training_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """The baseline's step, with FBR's terms added to its loss."""
        with self._capturing():
            outputs = super().training_step(batch, batch_idx, *args, **kwargs)
            if outputs is None:
                raise TypeError(
                    f"{type(self).__name__}: training_step returned None; FBR adds to the loss that it "
                    "returns, so manual optimization and skipped steps are not supported"
                )
            views = self.dense_views(batch, outputs)
        terms = [self.fbr(view, index) for index, view in enumerate(views)]
        self._log_terms(terms)
        total = sum(term.total for term in terms) / max(1, len(terms))
        if isinstance(outputs, Tensor):
            return outputs + total
        # The views must not reach Lightning: they would keep the graph alive beyond the step.
        rest = {key: value for key, value in outputs.items() if key != "views"}
        return {**rest, "loss": outputs["loss"] + total}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The baseline's groups, and FBR's parameters with the settings of its last one (the new layers)."""
        groups = super().parameter_groups()
        parameters = [parameter for parameter in self.fbr.parameters() if parameter.requires_grad]
        return [*groups, {**groups[-1], "params": parameters}] if parameters else groups

    def configure_callbacks(self) -> list[Callback]:
        """The baseline's callbacks, and the one that makes a resumed run draw what it would have drawn."""
        callbacks = super().configure_callbacks()
        return [*([callbacks] if isinstance(callbacks, Callback) else callbacks), RandomState()]

    def on_train_start(self) -> None:
        """Check that FBR's parameters are trained."""
        super().on_train_start()
        optimized = {
            id(parameter)
            for optimizer in self.trainer.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        if not all(id(p) in optimized for p in self.fbr.parameters() if p.requires_grad):
            raise ValueError(
                f"{type(self).__name__}: FBR's parameters are in no optimizer. Build the optimizer in "
                "configure_optimizers from self.parameters(), or from self.parameter_groups(), which "
                "FBRMixin extends"
            )

    def on_train_epoch_end(self) -> None:
        """Warn of steps that FBR skipped."""
        super().on_train_epoch_end()
        self.fbr.warn_if_skipped()

    def on_test_epoch_end(self) -> None:
        """Warn of a gate that nothing asked."""
        super().on_test_epoch_end()
        self._warn_if_not_gated()

    def on_predict_epoch_end(self) -> None:
        """Warn of a gate that nothing asked."""
        super().on_predict_epoch_end()
        self._warn_if_not_gated()

    def _warn_if_not_gated(self) -> None:
        if not self._gate_asked:
            self._gate_asked = True
            rank_zero_warn(
                f"{type(self).__name__} has the class-aware gate, but it did not lower any scores: where the "
                "model predicts, call scores = fbr_plugin.gate_scores(self, scores, levels)"
            )

    def _log_terms(self, terms: list[FBRTerms]) -> None:
        self.fbr_terms = FBRTerms(*(value.detach() for value in terms[0])) if terms else None
        for name in SCALARS if terms else ():
            values = [getattr(term, name).detach().float() for term in terms]
            self.log(f"fbr/{name}", sum(values) / len(values))
        self.log("fbr/skipped", self.fbr.skipped.float())

    @contextmanager
    def _capturing(self) -> Iterator[None]:
        """Run the hooks of every `capture` of the class, and forget what they kept afterwards."""
        captures = {
            attribute.path: attribute
            for owner in type(self).__mro__
            for attribute in vars(owner).values()
            if isinstance(attribute, capture)
        }
        with ExitStack() as stack:
            stack.callback(self._captured.clear)
            for attribute in captures.values():
                stack.callback(attribute.register(self, self._captured).remove)
            yield
