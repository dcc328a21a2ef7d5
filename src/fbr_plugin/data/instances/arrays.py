"""The instances of a raw item."""

from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.instances import Instances


class InstanceArrays(TypedDict, total=False):
    """`fbr_plugin.instances.Instances` as numpy arrays: `masks` and `labels` always.

    Attributes:
        masks: [N, H, W] bool.
        labels: [N] int64 class numbers 1..C.
        scores: [N] float32.
        iscrowd: [N] bool.
        ignore: [H, W] bool.
    """

    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    iscrowd: NDArray[np.bool_]
    ignore: NDArray[np.bool_]


def to_tensors(arrays: InstanceArrays) -> Instances:
    """The instances as tensors that share the arrays' memory."""
    made: Any = {name: torch.from_numpy(value) for name, value in arrays.items()}
    instances: Instances = made
    return instances
