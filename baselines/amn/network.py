"""AMN's head: image labels scale the features before dilated convolutions."""

from typing import Literal

from torch import Tensor, nn

from fbr_plugin.baselines.deeplab.network import ASPP

ConditionInit = Literal["identity", "uniform"]


class ConditionedASPP(nn.Module):
    """Scale the channels of features by the image labels, then sum dilated convolutions to logits.

    After `net/resnet50_amn.py` of gaviotas/AMN at 75c1999.

    Args:
        channels: width L of the features.
        num_classes: number of foreground classes C.
        rates: dilation of each 3x3 convolution.
        condition_init: where the scale starts. "identity" has the bias 1 and weights N(0, 0.1). "uniform" is
            torch's default for a linear layer, as in the released code: all within 1 / sqrt(C) of 0.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        rates: tuple[int, ...],
        condition_init: ConditionInit = "identity",
    ) -> None:
        super().__init__()
        self.condition = nn.Linear(num_classes, channels)
        if condition_init == "identity":
            nn.init.normal_(self.condition.weight, 0, 0.1)
            nn.init.ones_(self.condition.bias)
        self.dropout = nn.Dropout(0.1)
        self.branches = ASPP(channels, num_classes, rates)

    def forward(self, features: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Map features: [B, L, h, w] and label: [B, C] to logits [B, 1+C, h, w] and the scaled features."""
        features = features * self.condition(label)[:, :, None, None]
        return self.branches(self.dropout(features)), features
