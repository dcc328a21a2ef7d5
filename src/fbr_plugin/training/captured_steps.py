"""The steps of a LightningModule in which `capture` keeps outputs."""

from typing import TYPE_CHECKING, Any

from pytorch_lightning import LightningModule

from fbr_plugin.training.capture import Captures

# A plain class at run time, so that it mixes into any LightningModule; a LightningModule to a type checker.
_Module: Any = LightningModule if TYPE_CHECKING else object


class CapturedSteps(_Module):
    """Keeps what `capture` names, in validation, test and prediction; `FBRMixin` does so in training.

    Attributes:
        captures: what the present step has kept.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.captures = Captures(self)

    def predict_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """The baseline's prediction; what `capture` keeps of it can be read afterwards."""
        with self.captures.step():
            return super().predict_step(batch, batch_idx, *args, **kwargs)

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Begin to keep what `capture` names."""
        super().on_validation_batch_start(*args, **kwargs)
        self.captures.start()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Forget what `capture` kept."""
        super().on_validation_batch_end(*args, **kwargs)
        self._forget()

    def on_test_batch_start(self, *args: Any, **kwargs: Any) -> None:
        """Begin to keep what `capture` names."""
        super().on_test_batch_start(*args, **kwargs)
        self.captures.start()

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Forget what `capture` kept."""
        super().on_test_batch_end(*args, **kwargs)
        self._forget()

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Forget what `capture` kept."""
        super().on_predict_batch_end(*args, **kwargs)
        self._forget()

    def _forget(self) -> None:
        self.captures.stop()
        self.captures.clear()
