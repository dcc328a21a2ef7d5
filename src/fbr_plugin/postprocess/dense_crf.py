"""A dense CRF by pydensecrf2. This file does not import torch, so that worker processes start fast."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fbr_plugin.errors import MissingPackageError

STEPS = 10  # of mean field inference, in IRN and PSA
LABEL_CERTAINTY = 0.7  # probability that a label is correct


class Kernel(NamedTuple):
    """A pairwise kernel, which favours equal classes of near and similar pixels.

    Attributes:
        sxy: standard deviation of the distance, in pixels.
        compat: weight of the kernel.
        srgb: standard deviation of the colour difference, of 255; None for a kernel without colour.
    """

    sxy: float
    compat: float
    srgb: float | None = None


class Kernels(NamedTuple):
    """The pairwise kernels of a CRF: one of the distance alone, one of distance and colour."""

    smoothness: Kernel
    appearance: Kernel


#: Of IRN for labels (`misc/imutils.py` of jiwoon-ahn/irn at a2ece00).
LABELS = Kernels(Kernel(3, 3), Kernel(50, 10, 5))
#: Of PSA for scores (`tool/imutils.py` of jiwoon-ahn/psa at 9493e59), which later methods adopted.
SCORES = Kernels(Kernel(3, 3), Kernel(80, 10, 13))
#: Of DeepLab-v2 for its probabilities (`configs/voc12.yaml` of kazuto1011/deeplab-pytorch at 4219467).
DEEPLAB = Kernels(Kernel(1, 3), Kernel(67, 4, 3))


def import_pydensecrf() -> None:
    """Raise ImportError with the remedy if pydensecrf2 cannot be imported."""
    try:
        import pydensecrf.densecrf
        import pydensecrf.utils  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"a dense CRF needs pydensecrf2 ({error}): pip install 'fbr_plugin[crf]', which needs a C++ "
            'compiler, or use the method "pamr"'
        ) from error


def dense_crf(
    image: NDArray[np.uint8],
    scores: NDArray[np.float32],
    hard: bool = False,
    scale: float = 1.0,
    kernels: Kernels | None = None,
    steps: int = STEPS,
) -> NDArray[np.float32]:
    """Probabilities of each pixel's classes after mean field inference.

    Krähenbühl and Koltun, *Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials*, NIPS
    2011.

    Args:
        image: [H, W, 3] RGB, contiguous and writable.
        scores: [K, H, W] probabilities, contiguous.
        hard: whether to use each pixel's best class as a label, correct with probability 0.7, instead of its
            probabilities.
        scale: divides the distances of the kernels, as PSA's `scale_factor` does.
        kernels: the pairwise kernels; None takes `LABELS` or `SCORES`.
        steps: of mean field inference.

    Returns:
        [K, H, W] probabilities.
    """
    from pydensecrf import densecrf, utils

    classes, height, width = scores.shape
    if classes == 1:  # a single class: a label would divide by 0
        return np.ones_like(scores)
    if hard:
        unary = utils.unary_from_labels(scores.argmax(0), classes, LABEL_CERTAINTY, zero_unsure=False)
    else:
        unary = utils.unary_from_softmax(scores)
    smoothness, appearance = kernels or (LABELS if hard else SCORES)
    crf = densecrf.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=smoothness.sxy / scale, compat=smoothness.compat)
    crf.addPairwiseBilateral(
        sxy=appearance.sxy / scale, srgb=appearance.srgb, rgbim=image, compat=appearance.compat
    )
    return np.array(crf.inference(steps), np.float32).reshape(scores.shape)
