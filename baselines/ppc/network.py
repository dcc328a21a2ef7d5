"""PPC's head on an encoder: a classifier, a projection and SEAM's pixel correlation module.

The module is that of Wang et al., Self-supervised Equivariant Attention Mechanism for Weakly Supervised
Semantic Segmentation (CVPR 2020), YudeWang/SEAM at 3212261.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fbr_plugin import functional
from fbr_plugin.baselines.cam.network import thresholded_average
from fbr_plugin.baselines.ppc.seam_losses import EPSILON, keep_strongest, with_background

WIDTHS = (64, 128)  # widths of the two levels projected by the pixel correlation module
PROJECTION = 128  # width of the contrasted features
SeedMaps = Literal["refined", "softmax"]  # of the pixel correlation module, or of the CAM with a background

resize = partial(functional.resize, align_corners=True)


class PixelCorrelation(nn.Module):
    """Averages maps over similar pixels.

    The similarity of two pixels is the positive part of the cosine of their projected features, which come
    from two levels of the encoder and from the image; no gradient goes to the levels.

    Args:
        channels: widths of the two levels.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Conv2d(before, after, 1, bias=False) for before, after in zip(channels, WIDTHS, strict=True)
        )
        self.joint = nn.Conv2d(3 + sum(WIDTHS), sum(WIDTHS), 1, bias=False)
        for level in self.levels:
            nn.init.kaiming_normal_(level.get_parameter("weight"))
        nn.init.xavier_uniform_(self.joint.weight, gain=4)

    def forward(self, maps: Tensor, image: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Average maps: [B, K, h, w] of image: [B, 3, H, W] by two levels: [B, L_j, h_j, w_j]."""
        size = maps.shape[-2:]
        seen = [
            resize(project(level.detach()).relu(), size)
            for project, level in zip(self.levels, levels, strict=True)
        ]
        joint = self.joint(torch.cat([resize(image, size), *seen], 1))
        with torch.autocast(maps.device.type, enabled=False):
            unit = normalize(joint.to(maps.dtype).flatten(2), dim=1)
            alike = torch.bmm(unit.transpose(1, 2), unit).relu()
            averaged = torch.bmm(maps.flatten(2), alike) / (alike.sum(1, keepdim=True) + EPSILON)
        return averaged.view_as(maps)


class PPCMaps(NamedTuple):
    """The outputs of PPC's network for one view.

    Attributes:
        logits: [B, C] class logits.
        cam: [B, C, h, w] class activation maps before ReLU, or [B, 1+C, h, w] with the background first.
        refined: [B, 1+C, h, w] in [0, 1], the normalised maps of the image's classes, averaged over similar
            pixels; the background first.
        projection: [B, 128, h, w] features to contrast.
        levels: the encoder's levels.
    """

    logits: Tensor
    cam: Tensor
    refined: Tensor
    projection: Tensor
    levels: Sequence[Tensor]

    def seed_maps(self, kind: SeedMaps) -> Tensor:
        """The maps [B, C, h, w], at least 0, of which seeds are made."""
        return (self.refined if kind == "refined" else self.cam.softmax(1))[:, 1:]

    def enlarged(self, size: Sequence[int]) -> "PPCMaps":
        """The maps at the image's own size, and logits averaged from them, as in SEAM's released code."""
        cam = resize(self.cam, size)
        logits = cam[:, -self.logits.shape[1] :].mean((2, 3))
        return self._replace(logits=logits, cam=cam, refined=resize(self.refined, size))


class PPCHead(nn.Module):
    """Classifier, projection and pixel correlation on the last three levels of an encoder.

    Args:
        channels: widths of the encoder's levels.
        num_classes: number of foreground classes C.
        background: whether the background has its own map.
        thresholded: pool features by thresholded average pooling, else by global average pooling.
        dropout: share of the last level's channels dropped in training.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, background: bool, thresholded: bool, dropout: float
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.thresholded = thresholded
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels[-1], num_classes + background, 1, bias=False)
        self.projection = nn.Conv2d(channels[-1], PROJECTION, 1, bias=False)
        for layer in (self.classifier, self.projection):
            nn.init.xavier_uniform_(layer.weight)
        self.correlation = PixelCorrelation(channels[-3:-1])

    def forward(self, levels: Sequence[Tensor], image: Tensor, label: Tensor) -> PPCMaps:
        """Map levels: [B, L_j, h_j, w_j] of image: [B, 3, H, W] to maps in at least float32.

        Classes that are absent by label: [B, C] are removed before the maps are normalised.
        """
        features = self.dropout(levels[-1])
        pooled = thresholded_average(features) if self.thresholded else features.mean((2, 3), keepdim=True)
        logits, cam, projection = (
            x.to(torch.promote_types(x.dtype, torch.float32))
            for x in (self.classifier(pooled), self.classifier(features), self.projection(features).relu())
        )
        own = cam.detach()[:, -self.num_classes :].relu() * label[:, :, None, None].to(cam.dtype)
        normalised = (own - EPSILON).relu() / (own.amax((2, 3), keepdim=True) + EPSILON)
        maps = keep_strongest(with_background(normalised))
        refined = self.correlation(maps, image, levels[-3:-1])
        return PPCMaps(logits[:, -self.num_classes :, 0, 0], cam, refined, projection, levels)
