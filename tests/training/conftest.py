"""Small scenes with labels, for real training steps."""

from pathlib import Path

import pytest

from fbr_plugin.data import SyntheticDataModule, SyntheticScenes
from fbr_plugin.data.images import write_mask

NUM_IMAGES = 20
SIZE = 32


@pytest.fixture(scope="session")
def label_dir(tmp_path_factory) -> Path:
    """Pseudo labels of the small scenes: their true masks."""
    folder = tmp_path_factory.mktemp("labels")
    scenes = SyntheticScenes(num_images=NUM_IMAGES, size=SIZE)
    for index in range(NUM_IMAGES):
        write_mask(folder / f"{scenes[index]['id']}.png", scenes[index]["mask"])
    return folder


@pytest.fixture
def scenes(label_dir):
    """Make a data module of 20 scenes of 32 px: 5 batches of 4 an epoch."""

    def make(**kwargs):
        options = {"num_images": NUM_IMAGES, "size": SIZE, "batch_size": 4, "eval_batch_size": 10}
        return SyntheticDataModule(pseudo_label_dir=label_dir, **{**options, **kwargs})

    return make
