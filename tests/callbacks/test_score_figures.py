"""Figures of scores: when they are drawn, and what is in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import fit
from pytorch_lightning import Trainer
from torch import Tensor, nn

from fbr_plugin.baselines import CAM
from fbr_plugin.callbacks.loggers.panels import Overlay, Table
from fbr_plugin.callbacks.loggers.score_panels import Example, read_quality, score_panels
from fbr_plugin.callbacks.score_figures import ScoreFigures
from fbr_plugin.data import SyntheticDataModule
from fbr_plugin.metrics import SegmentationScore

TRUTH = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 255]])
SEEDS = torch.tensor([[[0.1, 0.6, 0.9, 0.9], [0.0, 0.0, 0.9, 0.9]], [[0.0] * 4] * 2])
MASK = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1]])  # the seeds at a threshold of .5


@pytest.mark.parametrize(("every_n_steps", "steps"), [(100, [2, 8]), (4, [2, 6, 8]), (0, [])])
def test_the_first_and_the_last_validation_are_plotted(
    every_n_steps: int,
    steps: list[int],
    scenes: Callable[..., SyntheticDataModule],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def note(trainer: Any, panels: dict[str, Any], folder: Path, step: int) -> None:
        assert panels.keys() == {"val/threshold_sweep"}
        assert folder == tmp_path / "figures"
        seen.append(step)

    monkeypatch.setattr("fbr_plugin.callbacks.score_figures.show", note)
    monkeypatch.setattr(
        "fbr_plugin.callbacks.score_figures.score_panels", lambda *_: {"threshold_sweep": None}
    )
    model = CAM(5, encoder="small", scales=(1.0,))
    callback = ScoreFigures(every_n_steps, 3)
    fit(model, scenes(num_images=8), tmp_path, max_epochs=4, limit_val_batches=None, callbacks=[callback])
    assert seen == steps
    assert [example.found.shape for example in callback._examples] == [(5, 32, 32)] * 3 * bool(steps)


@pytest.mark.parametrize("first", [True, False])
def test_all_processes_read_the_metrics_of_the_same_validations(
    first: bool,
    scenes: Callable[..., SyntheticDataModule],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reading is a collective call: a process that reads alone waits for ever."""
    steps: list[int] = []
    monkeypatch.setattr(Trainer, "is_global_zero", property(lambda _: first))
    monkeypatch.setattr(
        "fbr_plugin.callbacks.score_figures.read_quality",
        lambda module: steps.append(module.global_step) or read_quality(module),
    )
    model = CAM(5, encoder="small", scales=(1.0,))
    fit(
        model,
        scenes(num_images=8),
        tmp_path,
        max_epochs=4,
        limit_val_batches=None,
        callbacks=[ScoreFigures(4)],
    )
    assert steps == [2, 6, 8]


@pytest.mark.parametrize("found", [SEEDS, MASK], ids=["seeds", "masks"])
def test_tables_of_one_image(found: Tensor) -> None:
    module: Any = nn.ModuleList([score := SegmentationScore(2)])
    assert read_quality(module) is None
    score.update(MASK, TRUTH)
    quality = read_quality(module)
    assert quality is not None
    quality.marks["oracle"] = 0.5
    panels = score_panels(quality, [Example("a", torch.zeros(3, 2, 4), TRUTH, found)], ("boat", "train"))
    assert panels.keys() == {"confusion_matrix", "iou", "predictions"}
    iou, shown = panels["iou"].native, panels["predictions"].native
    # Of 7 known pixels, one of background is taken for a boat.
    assert iou == Table(["class", "IoU"], [("background", 75.0), ("boat", 75.0), ("train", None)])
    assert isinstance(shown, Table)
    *scores, overlay = shown.rows[0]
    assert scores == ["a", "boat", 75.0, 100.0, 75.0]
    assert isinstance(overlay, Overlay)
    assert {title: mask.labels.tolist() for title, mask in overlay.masks.items()} == {
        "truth": TRUTH.tolist(),
        "prediction": MASK.tolist(),
    }
    assert overlay.masks["truth"].names == {0: "background", 1: "boat", 2: "train", 255: "ignored"}


@pytest.mark.parametrize(("name", "value"), [("every_n_steps", -1), ("num_images", 0)])
def test_settings_that_are_too_small_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        ScoreFigures(**{name: value})
