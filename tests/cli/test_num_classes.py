"""The number of classes comes from the data module."""

import pytest
from helpers.random_data import RandomData
from jsonargparse import Namespace
from pytorch_lightning import LightningDataModule

from fbr_plugin.cli.lightning.classes import num_classes


def test_the_data_give_the_number() -> None:
    for given in (Namespace(num_classes=None), Namespace(num_classes=3), Namespace()):
        assert num_classes(RandomData(), given) == 3
    assert num_classes(LightningDataModule(), Namespace(num_classes=4)) == 4
    assert num_classes(LightningDataModule(), Namespace()) is None


def test_another_number_and_none_at_all_are_named() -> None:
    with pytest.raises(ValueError, match="num_classes=4, the data has 3 foreground classes; build the model"):
        num_classes(RandomData(), Namespace(num_classes=4))
    with pytest.raises(
        ValueError, match=r"LightningDataModule has no class_names: give --model\.num_classes"
    ):
        num_classes(LightningDataModule(), Namespace(num_classes=None))
