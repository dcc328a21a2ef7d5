"""Loggers that cannot stop a run: their failures become one warning."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger

CALLS = ("log_metrics", "log_hyperparams", "log_graph", "save", "after_save_checkpoint", "finalize")
"""What Lightning calls of a logger during a run."""

_warned: WeakSet[Logger] = WeakSet()


def guard(trainer: Trainer) -> Trainer:
    """Drop the loggers of a trainer that cannot start, and turn each other's failures into one warning."""
    trainer.loggers = [logger for logger in trainer.loggers if _starts(logger)]
    for logger in trainer.loggers:
        for name in CALLS:
            setattr(logger, name, surviving(logger)(getattr(logger, name)))
    return trainer


@contextmanager
def surviving(logger: Logger) -> Iterator[None]:
    """Turn an error into a warning, unless this logger has had one; also for use as a decorator."""
    try:
        yield
    except Exception as error:
        if logger not in _warned:
            _warned.add(logger)
            warnings.warn(f"{type(logger).__name__} failed, the run continues: {error!r}", stacklevel=4)


def _starts(logger: Logger) -> bool:
    """Whether a logger starts; warn if it does not."""
    try:
        getattr(logger, "experiment", None)  # starts it; Lightning's base class does not declare it
    except Exception as error:
        warnings.warn(f"{type(logger).__name__} could not start and is left out: {error}", stacklevel=3)
        return False
    return True
