"""Settings that the data modules share."""

from dataclasses import dataclass
from typing import Any

from fbr_plugin.errors import InputError


@dataclass(frozen=True)
class Lists:
    """The list of images for each stage.

    Args:
        train: name of the list for training.
        val: name of the list for validation and test.
        predict: name of the list for prediction; None uses the training list.

    Raises:
        ValueError: a name is empty.
    """

    train: str = "train"
    val: str = "val"
    predict: str | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value == "":
                raise InputError(f"{name}='' names no list: give the name of its file, such as 'train'")


@dataclass(frozen=True)
class Loading:
    """Batch sizes, worker processes and seed.

    Args:
        batch_size: images in a training batch, on each process.
        eval_batch_size: images in a batch outside training; more than 1 requires images of one size.
        num_workers: processes that load data; 0 loads in the main process.
        seed: determines the order and the augmentation in training, and the synthetic scenes.

    Raises:
        ValueError: a value is out of range.
    """

    batch_size: int = 16
    eval_batch_size: int = 1
    num_workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 1 if name in ("batch_size", "eval_batch_size") else 0
            if value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Augmentation:
    """Random size, flip, colour and crop of training images. At most one setting may determine the size.

    Args:
        crop_size: side of the square crop; smaller images are padded at random sides, with the mean colour
            and with 255 in masks.
        long_side: range in pixels from which the longer side is sampled, e.g. (320, 640) for a CAM.
        rescale: range from which the scale factor is sampled, e.g. (0.5, 1.5) for AMN.
        resize: side of a square to which images of any shape are resized, e.g. 256 for localization.
        colour_jitter: largest relative change of brightness, contrast and saturation; 0 is none.
        hue_jitter: largest change of the hue, of 1 for the whole circle of colours.
        hsv_shift: largest change of hue (of 180), saturation and value (of 255), each by one number for the
            whole image, as PPC's DeepLab was trained with 10.

    Raises:
        ValueError: a value is out of range, or two settings determine the size.
    """

    crop_size: int = 512
    long_side: tuple[int, int] | None = None
    rescale: tuple[float, float] | None = None
    resize: int | None = None
    colour_jitter: float = 0.0
    hue_jitter: float = 0.0
    hsv_shift: int = 0

    def __post_init__(self) -> None:
        sizes: dict[str, Any] = {"long_side": self.long_side, "rescale": self.rescale, "resize": self.resize}
        given = {name: value for name, value in sizes.items() if value is not None}
        if len(given) > 1:
            named = " and ".join(f"{name}={value}" for name, value in given.items())
            raise InputError(f"{named} exclude each other: give one of them")
        for name in ("long_side", "rescale"):
            if name in given and not 0 < given[name][0] <= given[name][1] < float("inf"):
                raise InputError(f"{name}={given[name]} must be a range (low, high) with 0 < low <= high")
        for name, side in (("crop_size", self.crop_size), ("resize", self.resize)):
            if side is not None and side < 1:
                raise InputError(f"{name} must be at least 1, got {side}")
        if not 0 <= self.colour_jitter < float("inf"):
            raise InputError(f"colour_jitter must be a finite number of at least 0, got {self.colour_jitter}")
        if not 0 <= self.hue_jitter <= 0.5:
            raise InputError(f"hue_jitter must lie in [0, 0.5], got {self.hue_jitter}")
        if not 0 <= self.hsv_shift <= 90:
            raise InputError(f"hsv_shift must lie in [0, 90], got {self.hsv_shift}")
