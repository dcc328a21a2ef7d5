"""Outputs and inputs of submodules, kept while a module steps: for baselines that nobody can edit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle

from fbr_plugin.errors import InputAttributeError, UsageError


class capture:
    """Keep what a submodule puts out in a step, for `FBRMixin.dense_views` and for `predict_step`.

    Declared in the class body, read as an attribute::

        class TheirsFBR(FBRMixin, Theirs):
            features = capture("encoder.layer4")

            def dense_views(self, batch, outputs):
                return [DenseView(self.features, self.classifier(self.features), batch["label"])]

    Only the submodule of that path is heard, not its copies. Values are kept as they were when the submodule
    returned, also if a later operation changes them in place, and with their gradient.

    Args:
        path: dotted path of the submodule, as in `named_modules`.
        call: which of its calls in the step: a number, in Python's order of indices; a slice for a list of
            several, `slice(None)` for all of them. None: the only one, and an error where there are more.
        inputs: keep the positional arguments of the call, a tuple, in place of its output.
    """

    def __init__(self, path: str, call: int | slice | None = None, inputs: bool = False) -> None:
        self.path = path
        self.call = call
        self.inputs = inputs
        self.key = (path, inputs)

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        kept: list[Any] = module.captures.kept.get(self.key, [])
        if isinstance(self.call, slice):
            return kept[self.call]
        if not kept:
            raise UsageError(self._reason(module))
        if self.call is None and len(kept) > 1:
            raise UsageError(
                f"{self.path!r} ran {len(kept)} times in this step: say which call to keep, "
                f"capture({self.path!r}, call=0), or take all, call=slice(None)"
            )
        try:
            return kept[self.call or 0]
        except IndexError:
            raise UsageError(f"{self.path!r} ran {len(kept)} times, there is no call {self.call}") from None

    def register(self, module: nn.Module, kept: list[Any]) -> RemovableHandle:
        """Hook the submodule of `module` so that every call adds to `kept`."""
        target = _submodule(module, self.path)

        # A copy of the submodule has a copy of its hooks: what it does is not asked for.
        def keep_output(called: nn.Module, _: Any, output: Any) -> None:
            if called is target:
                kept.append(_snapshot(output))

        def keep_inputs(called: nn.Module, inputs: Any) -> None:
            if called is target:
                kept.append(_snapshot(inputs))

        if self.inputs:
            return target.register_forward_pre_hook(keep_inputs)
        return target.register_forward_hook(keep_output)

    def _reason(self, module: nn.Module) -> str:
        """Why nothing was kept."""
        target = _submodule(module, self.path)
        if isinstance(target, torch._dynamo.OptimizedModule) or target._compiled_call_impl is not None:
            return (
                f"nothing was captured from {self.path!r}, which is compiled: hooks inside a compiled graph "
                "need not run. Compile the whole step, or leave this submodule uncompiled"
            )
        return (
            f"nothing was captured from {self.path!r}. Either it did not run in this step; or it was called "
            "as .forward(...), which bypasses hooks: capture a submodule inside it, or the one that contains "
            "it; or it was read outside of a step: read it in dense_views, or after super().predict_step(...)"
        )


class Captures:
    """All captures of a module's class, and what they have kept in the present step.

    Args:
        module: the module whose class declares them.
    """

    def __init__(self, module: nn.Module) -> None:
        self.kept: dict[tuple[str, bool], list[Any]] = {}
        self._module = module
        self._handles: list[RemovableHandle] = []
        owners = type(module).__mro__
        found = (value for owner in owners for value in vars(owner).values() if isinstance(value, capture))
        self._captures = {each.key: each for each in found}

    def start(self) -> None:
        """Forget the last step, and keep what runs from now on."""
        self.stop()
        self.kept = {key: [] for key in self._captures}
        try:
            for key, each in self._captures.items():
                self._handles.append(each.register(self._module, self.kept[key]))
        except AttributeError:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the hooks; what was kept stays until `start` or `clear`."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def clear(self) -> None:
        """Forget what was kept."""
        self.kept = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """Keep what runs in the block; within a step that has started already, leave it at that."""
        if self._handles:
            yield
            return
        self.start()
        try:
            yield
        finally:
            self.stop()


def _snapshot(values: Any) -> Any:
    """Values with every tensor copied, so that a later operation in place changes the original alone."""
    return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, values)


def _submodule(module: nn.Module, path: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        names = ", ".join(name for name, _ in module.named_children())
        raise InputAttributeError(
            f"capture({path!r}): {type(module).__name__} has no such submodule; it has {names}"
        ) from error
