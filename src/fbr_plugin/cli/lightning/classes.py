"""The number of classes of a model, which the data module knows."""

from jsonargparse import Namespace
from pytorch_lightning import LightningDataModule

from fbr_plugin.contract import NamedClasses
from fbr_plugin.errors import InputError


def num_classes(data: LightningDataModule, given: Namespace) -> int | None:
    """The number of a data module's foreground classes; where it names none, the number that is given.

    Args:
        data: the data module.
        given: the model's arguments.

    Raises:
        ValueError: another number is given, or one is needed and none is known.
    """
    number: int | None = given.get("num_classes")
    if not isinstance(data, NamedClasses):
        if "num_classes" in given and number is None:
            raise InputError(f"{type(data).__name__} has no class_names: give --model.num_classes")
        return number
    found = len(data.class_names)
    if number not in (None, found):
        raise InputError(
            f"the model has num_classes={number}, the data has {found} foreground classes; build the "
            f"model with num_classes={found}, or leave it out"
        )
    return found
