"""Fixtures shared by the tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.tiny import write_scene_labels

from fbr_plugin.data import Loading, SyntheticDataModule

# The outputs of released networks were computed with these kernels; others add in another order.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data for checks, named by ``FBR_TEST_DATA``."""
    root = os.environ.get("FBR_TEST_DATA")
    if not root:
        pytest.skip("FBR_TEST_DATA is unset: no real data to check against")
    return Path(root)


@pytest.fixture(scope="session")
def label_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pseudo labels of the small scenes: their true masks."""
    return write_scene_labels(tmp_path_factory.mktemp("labels"), 20, 32)


@pytest.fixture
def scenes(label_dir: Path) -> Callable[..., SyntheticDataModule]:
    """Make a data module of 20 scenes of 32 px with labels: 5 batches of 4 an epoch."""

    def make(**kwargs: object) -> SyntheticDataModule:
        options = {"num_images": 20, "size": 32, "loading": Loading(4, eval_batch_size=10)}
        return SyntheticDataModule(pseudo_label_dir=label_dir, **{**options, **kwargs})

    return make
