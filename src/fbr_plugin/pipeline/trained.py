"""The networks that the pipeline has trained, at work on the images that need seeds."""

from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning import Callback, LightningModule

from fbr_plugin.callbacks.checkpoints import read_checkpoint
from fbr_plugin.contract import ScorePropagator
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.errors import InputTypeError
from fbr_plugin.pipeline import stages
from fbr_plugin.pipeline.stages import CHECKPOINT
from fbr_plugin.pipeline.training import Training


def predict_seeds(seeds: Training, inputs: dict[str, Path], writers: Sequence[Callback], done: Path) -> None:
    """Predict the seeds of the training images, which callbacks write or turn into masks."""
    data, model = seed_images(seeds, inputs), seeds.network(inputs.get("classifier"))
    stages.predict(seed_checkpoint(inputs), model, data, seeds.trainer_flags(), writers, done)


def seed_checkpoint(inputs: dict[str, Path]) -> Path:
    """The weights of the network that predicts seeds."""
    return next(inputs[name] for name in ("baseline", "classifier") if name in inputs) / CHECKPOINT


def seed_images(seeds: Training, inputs: dict[str, Path]) -> WSSSDataModule:
    """The images of the network that predicts seeds, with the labels that it may read."""
    return seeds.images(inputs["labels"] / "labels" if "labels" in inputs else None)


def propagator(walk: Training | None, inputs: dict[str, Path]) -> ScorePropagator | None:
    """The trained network that spreads seeds over their image; None where there is none."""
    if walk is None:
        return None
    network = trained_walk(walk, inputs)
    if not isinstance(network, ScorePropagator):
        raise InputTypeError(f"irn.model is a {type(network).__name__}, which has no method propagate")
    return network


def trained_walk(walk: Training, inputs: dict[str, Path]) -> LightningModule:
    """The trained network of the stage `irn`."""
    network = walk.network()
    state = read_checkpoint(inputs["irn"] / CHECKPOINT, map_location="cpu", weights_only=True)
    network.load_state_dict(state["state_dict"])
    return network
