"""The stuff around the objects, such as grass and sky: what data modules tell metrics of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class StuffTable(NamedTuple):
    """The stuff in a set of images, and the classes with which it co-occurs.

    Attributes:
        names: S names, in the order of the numbers 1..S in maps of stuff; 0 is none of them.
        cooccurring: [C, S] bool, whether stuff s co-occurs with class c.
    """

    names: Sequence[str]
    cooccurring: Tensor


@runtime_checkable
class WithStuff(Protocol):
    """A data module, also one that is not ours, whose scored batches may hold `stuff`: [B, H, W] integers."""

    def stuff_table(self) -> StuffTable | None:
        """The stuff of the scored images, equal on every process; None where batches hold no stuff."""
