"""The dense features of timm's models."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from fbr_plugin.errors import InputError, MissingFileError

STRIDES = (4, 8, 14, 16, 32)


class TimmEncoder(nn.Module):
    """The feature levels of a timm model, the last one at `output_stride`.

    Args:
        name: name of a timm model.
        output_stride: image pixels per pixel of the last level.
        pretrained: download timm's weights.

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.
    """

    def __init__(self, name: str, output_stride: int, pretrained: bool = False) -> None:
        super().__init__()
        model = create_model(name, output_stride, pretrained)
        if model is None:
            known = [str(stride) for stride in STRIDES if create_model(name, stride) is not None]
            raise InputError(
                f"encoder {name!r} has no output stride {output_stride}; it supports "
                f"{', '.join(known) if known else 'none (it has no dense features at every image size)'}"
            )
        self.model = model
        self.name = name
        self.channels: tuple[int, ...] = tuple(model.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(model.feature_info.reduction())
        self.stride = output_stride

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, h_j, w_j], the last ceil(H / stride) high."""
        height, width = image.shape[-2:]
        # Some models drop pixels that do not fill a patch, others refuse them: complete the last patch.
        return list(self.model(pad(image, (0, -width % self.stride, 0, -height % self.stride))))

    def last_stage(self) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but one into the last.

        Raises:
            ValueError: timm does not hold this model's stages as a sequence of modules.
        """
        from timm.models import FeatureListNet

        if isinstance(self.model, FeatureListNet):
            modules = dict(self.model.items())
        else:  # EfficientNet and its relatives
            blocks = dict(self.model.named_children()).get("blocks", nn.Sequential())
            modules = {f"blocks_{name}": block for name, block in blocks.named_children()}
        before = self.model.feature_info.module_name()[-2].replace(".", "_")
        if before not in modules:
            raise InputError(
                f"encoder {self.name!r} cannot be split before its last stage, as its levels come from "
                f"{type(self.model).__name__}; take one with sequential stages, such as resnet50, "
                "convnext_tiny or efficientnet_b0"
            )
        return nn.Sequential(*list(modules.values())[list(modules).index(before) + 1 :])


def create_model(name: str, output_stride: int, pretrained: bool = False) -> Any:
    """timm's feature extractor at this stride, or None if the model has no such stride."""
    import timm  # here, as it imports wandb where that is installed

    dilated = {"output_stride": output_stride}
    any_size = {"dynamic_img_size": True}  # of vision transformers, whose stride is their patch
    for options in (dilated, any_size):
        try:
            model: Any = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
        except (TypeError, AssertionError, NotImplementedError):  # how timm's models reject an option
            continue
        except Exception as error:
            if not pretrained:
                raise InputError(f"encoder {name!r} cannot be built: {error}") from error
            raise MissingFileError(
                f"the pretrained weights of encoder {name!r} cannot be loaded: {error}; "
                "set pretrained=False, or name a local file of weights with weights=FILE"
            ) from error
        if model.feature_info.reduction()[-1] == output_stride:
            return model
    return None
