"""The CAM of another trained network, which BAS's seeds are combined with."""

from torch import Tensor

from fbr_plugin.baselines.cam.module import CAM, CAMFBR
from fbr_plugin.callbacks.checkpoints import read_checkpoint
from fbr_plugin.errors import InputError, MissingFileError


class TrainedCAM:
    """The class activation maps of a CAM from its checkpoint.

    This is no module, so that the checkpoint of the network which combines its seeds with these maps does not
    hold the CAM's weights.

    Args:
        path: checkpoint of `CAM` or `CAMFBR`.
        num_classes: number of foreground classes C that it must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not the checkpoint of a CAM, or of one for other classes.
    """

    def __init__(self, path: str, num_classes: int) -> None:
        try:
            checkpoint = read_checkpoint(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise MissingFileError(
                f"combine_with={path} does not exist: give the checkpoint of a trained CAM, or leave it out"
            ) from error
        known = checkpoint.get("hyper_parameters", {})
        settings = {name: value for name, value in known.items() if not name.startswith("_")}
        try:
            self.network = (CAMFBR if "fbr" in settings else CAM)(**settings)
            self.network.load_state_dict(checkpoint["state_dict"])
        except (TypeError, RuntimeError, KeyError) as error:
            raise InputError(f"combine_with={path} is not the checkpoint of a CAM: {error}") from error
        if self.network.num_classes != num_classes:
            raise InputError(
                f"combine_with={path} is a CAM of {self.network.num_classes} classes, but the network has "
                f"num_classes={num_classes}"
            )
        self.network.eval().requires_grad_(False)

    def __call__(self, image: Tensor, label: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] and label: [B, C] to class activation maps [B, C, h, w], at least 0."""
        return self.network.to(image.device).seed_scores(image, label)
