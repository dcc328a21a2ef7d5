"""The dense features of timm's models."""

from typing import Any

from torch import Tensor, nn

from fbr_plugin.baselines.encoders.common import aligned_levels, no_stride, no_weights
from fbr_plugin.errors import InputError

STRIDES = (4, 8, 14, 16, 32)


class TimmEncoder(nn.Module):
    """The feature levels of a timm model, the last one at `output_stride`.

    The levels of a vision transformer are its patch tokens after each quarter of its blocks.

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
            known = [stride for stride in STRIDES if create_model(name, stride) is not None]
            raise no_stride(name, output_stride, known, "none (it has no dense features at every image size)")
        self.model = model
        self.name = name
        self.channels: tuple[int, ...] = tuple(model.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(model.feature_info.reduction())
        self.stride = output_stride

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels [B, L_j, ceil(H / stride_j), ceil(W / stride_j)]."""
        return aligned_levels(self.model, image, self.strides)

    def whole_levels(self, image: Tensor) -> list[Tensor]:
        """The levels of an image whose last cells are not completed, on the model's own grids."""
        levels: list[Tensor] = self.model(image)
        return levels

    def last_stage(self, count: int = 1) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but `count` into the last.

        Raises:
            ValueError: timm does not hold this model's stages as a sequence of modules.
        """
        from timm.models import FeatureListNet

        if isinstance(self.model, FeatureListNet):
            modules = dict(self.model.items())
        else:  # EfficientNet and its relatives
            blocks = dict(self.model.named_children()).get("blocks", nn.Sequential())
            modules = {f"blocks_{name}": block for name, block in blocks.named_children()}
        before = self.model.feature_info.module_name()[-1 - count].replace(".", "_")
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
            raise no_weights(name, error) from error
        if model.feature_info.reduction()[-1] == output_stride:
            return spread(model) if options is any_size else model
    return None


def spread(model: Any) -> Any:
    """A vision transformer with four levels from all of its depth, where timm takes its last blocks."""
    depth = len(model.feature_info)
    return type(model)(model.model, sorted({max(0, depth * quarter // 4 - 1) for quarter in range(1, 5)}))
