"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest
import torch


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
