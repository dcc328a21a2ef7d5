"""Wide ResNet-38d, the encoder of SEAM, EPS and PPC.

After Wu et al., Wider or Deeper: Revisiting the ResNet Model for Visual Recognition (Pattern Recognition
2019), model A1, dilated to output stride 8 as by SEAM (YudeWang/SEAM at 3212261).
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

# Names in the released weights: `res5b1_branch2a_weight` in MXNet's, `b5_1.conv_branch2a.weight` in torch's.
MXNET = re.compile(
    r"(?:arg:|aux:)?(?P<kind>res|bn)(?P<stage>\d)(?:a|b(?P<block>\d))?(?:_branch(?P<layer>\w+?))?"
    r"_(?P<parameter>weight|gamma|beta|moving_mean|moving_var)"
)
TORCH = re.compile(
    r"bn?(?P<stage>\d)(?:_(?P<block>\d))?(?:\.(?P<kind>conv|bn)_branch(?P<layer>\w+))?\.(?P<parameter>\w+)"
)
LAYERS = {"2a": 0, "2b1": 1, "2b2": 2}
PARAMETERS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}


class Block(nn.Module):
    """A residual block in which normalisation and ReLU come before each convolution.

    Args:
        widths: channels before, between and after the convolutions.
        kernels: side of each convolution.
        dilations: of each convolution.
        stride: of the first convolution and of the shortcut.
        dropout: share of the channels dropped before each convolution but the first.
    """

    def __init__(
        self,
        widths: Sequence[int],
        kernels: Sequence[int],
        dilations: Sequence[int],
        stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, kernel, step, dilation * (kernel // 2), dilation, bias=False)
            for (before, after), kernel, step, dilation in zip(
                pairwise(widths), kernels, (stride, 1, 1), dilations, strict=False
            )
        )
        self.dropout = nn.Dropout2d(dropout)
        self.shortcut: nn.Module | None = None
        if stride > 1 or widths[0] != widths[-1]:
            self.shortcut = nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False)

    def activate(self, x: Tensor) -> Tensor:
        """Map x: [B, L, H, W] to the input of the first convolution."""
        return torch.relu(self.norms[0](x))

    def forward(self, x: Tensor, activated: Tensor | None = None) -> Tensor:
        """Map x: [B, L, H, W], with `activate(x)` if known, to [B, L', H/stride, W/stride]."""
        activated = self.activate(x) if activated is None else activated
        y: Tensor = self.convs[0](activated)
        for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
            y = conv(self.dropout(norm(y).relu()))
        return y + (x if self.shortcut is None else self.shortcut(activated))


class ResidualStage(nn.Module):
    """Blocks of two 3x3 convolutions, of which the first has the stride and changes the width.

    Args:
        blocks: number of blocks.
        widths: channels before, within and after the first block.
        stride: of the first block.
        dilation: of all convolutions but the first, which has 1.
    """

    def __init__(self, blocks: int, widths: tuple[int, int, int], stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        _, between, after = widths
        self.first = Block(widths, (3, 3), (1, dilation), stride)
        self.rest = nn.Sequential(
            *(Block((after, between, after), (3, 3), (dilation, dilation)) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x: [B, L, H, W] to [B, L', H/stride, W/stride], and to the input of the first convolution."""
        activated = self.first.activate(x)
        return self.rest(self.first(x, activated)), activated


class Tail(nn.Module):
    """The last two blocks, bottlenecks, and the final normalisation.

    Args:
        width: channels of the encoder's first layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (
            Block((before, before // 2, before, 2 * before), (1, 3, 1), (1, 4, 1), dropout=dropout)
            for before, dropout in ((16 * width, 0.3), (32 * width, 0.5))
        )
        self.norm = nn.BatchNorm2d(64 * width)

    def forward(self, activated: Tensor) -> Tensor:
        """Map activated: [B, 16 * width, h, w] to [B, 64 * width, h, w]; both shortcuts are convolutions."""
        x = self.first(activated, activated)
        return torch.relu(self.norm(self.second(x)))


class ResNet38d(nn.Module):
    """Wide ResNet-38 of output stride 8.

    Args:
        frozen: freeze all batch normalisation, the stem and the first stage, as SEAM does with pretrained
            weights.

    Attributes:
        channels: width of each level.
        strides: image pixels per pixel of each level.
        stride: that of the last level.
    """

    width = 64
    strides: tuple[int, ...] = (4, 8, 8, 8)
    stride = 8

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        width = self.width
        self.frozen = frozen
        self.channels: tuple[int, ...] = (4 * width, 8 * width, 16 * width, 64 * width)
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.stages = nn.ModuleList(
            [
                ResidualStage(3, (width, 2 * width, 2 * width), stride=2),
                ResidualStage(3, (2 * width, 4 * width, 4 * width), stride=2),
                ResidualStage(6, (4 * width, 8 * width, 8 * width), stride=2),
                ResidualStage(3, (8 * width, 8 * width, 16 * width), dilation=2),
            ]
        )
        self.tail = Tail(width)
        if frozen:
            norms = (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))
            for module in (self.stem, self.stages[0], *norms):
                module.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map image: [B, 3, H, W] to its levels, all after normalisation and ReLU.

        Returns:
            [B, 256, H/4, W/4], [B, 512, H/8, W/8], [B, 1024, H/8, W/8] and [B, 4096, H/8, W/8], rounded up.
        """
        x = self.stem(image)
        levels = []
        for stage in self.stages:
            x, activated = stage(x)
            levels.append(activated)
        levels.append(self.tail.first.activate(x))
        return [*levels[2:], self.tail(levels[-1])]

    def last_stage(self) -> nn.Sequential:
        """The modules, with the encoder's own weights, that turn the last level but one into the last."""
        return nn.Sequential(self.tail)

    def train(self, mode: bool = True) -> "ResNet38d":
        """Set the mode, but leave frozen batch normalisation in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if self.frozen and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def rename_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the released MXNet and torch files to ours; other names stay."""
    return {_our_name(name): value for name, value in state.items()}


def _our_name(name: str) -> str:
    if "conv1a" in name:
        return "stem.weight"
    match = MXNET.fullmatch(name) or TORCH.fullmatch(name)
    if match is None:
        return name
    stage, layer = int(match["stage"]), match["layer"]
    parameter = PARAMETERS.get(match["parameter"], match["parameter"])
    if layer is None:
        return f"tail.norm.{parameter}"
    number = int(match["block"] or 0)
    place = f"rest.{number - 1}" if number else "first"
    block = {6: "tail.first", 7: "tail.second"}.get(stage, f"stages.{stage - 2}.{place}")
    if layer == "1":
        return f"{block}.shortcut.{parameter}"
    return f"{block}.{'norms' if match['kind'] == 'bn' else 'convs'}.{LAYERS[layer]}.{parameter}"
