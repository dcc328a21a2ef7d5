"""The scenes do what they are for: a plain CAM takes the background that comes with a class for the class."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import pytorch_lightning as pl
from helpers.runs import fit

from fbr_plugin.baselines import CAM, OptimizerConfig
from fbr_plugin.data import Loading, SyntheticDataModule
from fbr_plugin.processes import process_context

PRESETS = ("default", "control")
pytestmark = pytest.mark.slow


def scores(preset: str, folder: Path) -> dict[str, float]:
    """Train a CAM for 400 steps on 400 scenes and score its seeds."""
    pl.seed_everything(1, verbose=False)
    model = CAM(
        5,
        encoder="small",
        optimizer=OptimizerConfig("AdamW", lr=3e-3, head_lr=3e-3, weight_decay=1e-3, warmup_steps=20),
        scales=(1.0,),
    )
    data = SyntheticDataModule(preset, num_images=400, loading=Loading(eval_batch_size=50, seed=1))
    trainer = fit(model, data, folder, max_epochs=None, max_steps=400)
    return trainer.test(model, data, verbose=False)[0]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Scores of the seeds for both presets, trained side by side."""
    folders = [tmp_path_factory.mktemp(preset) for preset in PRESETS]
    with ProcessPoolExecutor(len(PRESETS), process_context()) as pool:
        return dict(zip(PRESETS, pool.map(scores, PRESETS, folders), strict=True))


def test_a_plain_cam_is_drawn_to_the_co_occurring_background(seeds):
    found = seeds["default"]
    assert 40 < found["test/miou_oracle"] < 55
    assert 12 < found["test/fp_cooccurring"] < 32
    assert found["test/fp_other"] < 5


def test_without_co_occurrence_it_is_not(seeds):
    selectivity = {
        name: found["test/fp_cooccurring"] / found["test/fp_other"] for name, found in seeds.items()
    }
    assert selectivity["default"] > 5
    assert selectivity["control"] < 3


def test_the_label_free_threshold_is_close_to_the_oracle_s(seeds):
    for found in seeds.values():
        assert found["test/miou_oracle"] - 4 < found["test/miou_label_free"] <= found["test/miou_oracle"]
