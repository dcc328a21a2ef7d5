"""PPC: SEAM with a pixel-to-prototype contrast, and EPS's loss if there are saliency maps.

After Du et al., Weakly Supervised Semantic Segmentation by Pixel-to-Prototype Contrast (CVPR 2022, arXiv
2110.07110; usr922/wseg at e96b961). `seam_losses` cites SEAM and EPS.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from fbr_plugin.baselines.cam.network import Pooling
from fbr_plugin.baselines.ppc import losses as ppc_losses
from fbr_plugin.baselines.ppc import seam_losses
from fbr_plugin.baselines.ppc.losses import ContrastConfig
from fbr_plugin.baselines.ppc.network import PROJECTION, PPCHead, PPCMaps, SeedMaps, resize
from fbr_plugin.baselines.ppc.terms import mean, own_classes, saliency_on_grid, seam_terms
from fbr_plugin.baselines.tasks.encoder_task import Batch
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.baselines.tasks.seed_task import SeedTask
from fbr_plugin.config import merged, preset
from fbr_plugin.contract import DenseView, StepOutput
from fbr_plugin.errors import InputError, check_choice
from fbr_plugin.functional import max_normalise, min_max
from fbr_plugin.modules import StepRandom
from fbr_plugin.training.mixin import FBRMixin

CONTRAST_WEIGHT = 0.1


class StepNoise(StepRandom):
    """Uniform random numbers of a step."""

    def forward(self, count: int, view: int) -> Tensor:
        """The numbers [count] of a view, in [0, 1); view 0 comes first and starts the step."""
        self.step += view == 0
        return self.generator(view).rand((count,))


class PPC(SeedTask):
    """Pixel-to-prototype contrast on SEAM.

    The views' maps are compared on the grid of the second, smaller one. SGD runs without momentum. The poly
    optimizer of the released code passes the weight decay in its place, which gives it one of 0.0005.

    Args:
        num_classes: number of foreground classes C.
        saliency: train with saliency maps (EPS): batches need `saliency`, and the background has a map.
        pooling: "gap" for global average pooling, "tap" for thresholded average pooling.
        intra_view: whether the contrast within each view is part of the loss.
        view_size: side of the second view in pixels, 128 for crops of 448; None uses 2/7 of the crop, but at
            least 8 feature pixels or half the crop.
        contrast_grid: side of the grid on which the views are contrasted and passed to FBR; None uses that of
            the second view, which is 16 for crops of 448 pixels and stride 8.
        dropout: share of the last level's channels dropped in training; 0.5 in SEAM and PPC, 0 in EPS.
        seed_maps: of which maps the seeds are made: "refined" by the pixel correlation module, as in SEAM; or
            the "softmax" of the CAM with a background, as in EPS.
        contrast: see `ContrastConfig`.
        released_maps: use maps as the released code does. Those of classes that an image lacks compete in
            the refined maps and join the prototypes; otherwise they are removed before anything is
            normalised. The saliency map is reduced to its nearest pixels, instead of averaged. Without
            saliency, SEAM's losses, and class logits by "gap", are computed at the views' own sizes.
        optimizer: see `OptimizerConfig`; biases have twice their layer's rate and no weight decay.
        encoder: see `EncoderTask`; its last three levels are used.
        kwargs: see `SeedTask`.
    """

    seed_style = "seam"

    def __init__(
        self,
        num_classes: int,
        saliency: bool = False,
        pooling: Pooling = "gap",
        intra_view: bool = True,
        view_size: int | None = None,
        contrast_grid: int | None = None,
        dropout: float = 0.5,
        seed_maps: SeedMaps = "refined",
        contrast: ContrastConfig = ContrastConfig(),
        released_maps: bool = False,
        optimizer: OptimizerConfig = OptimizerConfig(lr=0.01, head_lr=0.1, weight_decay=5e-4),
        encoder: str = "resnet38d",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, optimizer=optimizer, encoder=encoder, **kwargs)
        check_choice("pooling", pooling, Pooling)
        check_choice("seed_maps", seed_maps, SeedMaps)
        if seed_maps == "softmax" and not saliency:
            raise InputError(
                "seed_maps='softmax' needs a map of the background, which saliency=True trains; without "
                "saliency maps, take 'refined'"
            )
        for name, value in (("view_size", view_size), ("contrast_grid", contrast_grid)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}; None derives it from the crop")
        channels = self.encoder.channels
        if len(channels) < 3:
            raise InputError(
                f"PPC needs an encoder with two levels before its last, {encoder!r} has {len(channels) - 1}; "
                "resnet38d, small and timm's convolutional models have them"
            )
        self.view_shape = replace(self.view_shape, num_views=2)
        self.head = PPCHead(channels, num_classes, saliency, pooling == "tap", dropout)
        self.contrast = merged(preset(type(self), "contrast"), contrast)
        self.save_hyperparameters({"contrast": asdict(self.contrast)})  # plain, as the optimizer's
        self.noise = StepNoise()
        self.intra_view = intra_view

    def forward(self, image: Tensor, label: Tensor) -> PPCMaps:
        """Map image: [B, 3, H, W] and label: [B, C] to the maps of which losses and seeds are made."""
        counted = torch.ones_like(label) if self.hparams["released_maps"] else label
        maps: PPCMaps = self.head(self.encoder(image), image, counted)
        return maps

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """The sum of all losses, and both views on the grid of the contrasts."""
        if self.hparams["saliency"] and "saliency" not in batch:
            raise InputError(
                "PPC with saliency=True trains on saliency maps, and the batch has no 'saliency': give the "
                "data module their folder as saliency_dir, or set saliency=False"
            )
        image, label = batch["image"], batch["label"]
        fixed = self.hparams["view_size"]
        size = [fixed or second_view_size(side, self.stride) for side in image.shape[-2:]]
        views = [self(image, label), self(resize(image, size), label)]
        fixed = self.hparams["contrast_grid"]
        grid = [fixed or side for side in views[1].cam.shape[-2:]]
        with torch.autocast(image.device.type, enabled=False):
            terms = self._terms(views, [image.shape[-2:], size], batch, grid)
        loss = torch.stack(list(terms.values())).sum()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(label))
        logged = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(logged, batch_size=len(label))
        outputs: StepOutput = {"loss": loss}
        if self.wants_views:
            outputs["views"] = [
                DenseView(
                    features=view.levels[-1],
                    scores=view.refined[:, 1:],
                    labels=label,
                    seg_scores=view.cam[:, -self.num_classes :],
                    grid=grid,
                    seed_scores=view.seed_maps(self.hparams["seed_maps"]),
                    to_seeds=self.view_seeds(batch),
                    levels=self.shallow(view.levels),
                )
                for view in views
            ]
        return outputs

    def seed_scores(self, image: Tensor, label: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] and label: [B, C] to maps of the classes [B, C, h, w], at least 0."""
        maps = self(image, label)
        return self.gated(maps.seed_maps(self.hparams["seed_maps"]), maps.levels)

    def to_seeds(self, scores: Tensor, batch: Batch) -> Tensor:
        """Mask scores: [B, C, H, W] by the image labels, and scale each map to [0, 1]."""
        own = own_classes(scores, batch["label"])
        return min_max(own) if self.hparams["seed_maps"] == "refined" else max_normalise(own)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters by learning rate, biases apart, the weights of the new layers last."""
        groups: list[dict[str, Any]] = []
        encoder, head = self.encoder.named_parameters(), self.head.named_parameters()
        for parameters, lr in ((encoder, self.optimizer.lr), (head, self.optimizer.head_lr)):
            trained = [(name, value) for name, value in parameters if value.requires_grad]
            biases = [value for name, value in trained if name.endswith("bias")]
            weights = [value for name, value in trained if not name.endswith("bias")]
            groups += [{"params": biases, "lr": 2 * lr, "weight_decay": 0.0}, {"params": weights, "lr": lr}]
        return [group for group in groups if group["params"]]

    def _terms(
        self, views: list[PPCMaps], sizes: list[Sequence[int]], batch: Batch, grid: Sequence[int]
    ) -> dict[str, Tensor]:
        """The losses by name, weighted; `sizes` are those of the views, `grid` that of the contrasts."""
        label = batch["label"].to(views[0].cam.dtype)
        released = self.hparams["released_maps"]
        terms = seam_terms(views, label, sizes if released and not self.hparams["saliency"] else None)
        if self.hparams["saliency"]:
            saliency = batch["saliency"].to(label.dtype)
            terms["saliency"] = mean(
                seam_losses.saliency_loss(view.cam, target, label)
                + seam_losses.saliency_loss(view.refined, target, label)
                for view, size in zip(views, sizes, strict=True)
                for target in [saliency_on_grid(saliency, size, view.cam.shape[-2:], released)]
            )
        contrasts = [
            ppc_losses.contrast_view(
                resize(view.projection, grid),
                resize(view.refined[:, 1:], grid),
                label,
                self.contrast,
                released,
            )
            for view in views
        ]
        by_prototype, by_label = ppc_losses.cross_view_contrast(
            contrasts[0], contrasts[1], self.contrast.background_pixels
        )
        terms["cross_prototype"] = CONTRAST_WEIGHT * by_prototype
        terms["cross_label"] = CONTRAST_WEIGHT * by_label
        if self.intra_view:
            intra = mean(
                ppc_losses.intra_view_contrast(view, self.noise(len(view.labels), index))
                for index, view in enumerate(contrasts)
            )
            terms["intra_view"] = CONTRAST_WEIGHT * intra
        return terms


class PPCFBR(FBRMixin, PPC):
    """PPC trained with FBR, whose intra-foreground contrast replaces PPC's contrast within a view.

    Args:
        num_classes: number of foreground classes C.
        intra_view: whether PPC's own contrast within each view is part of the loss; None leaves it out if
            FBR's losses are enabled.
        shared_projection: whether PPC's contrasts and FBR's losses share the projection of the foreground, as
            in the released code. The fbr setting dim must then be 128.
        kwargs: see `PPC` and `FBRMixin`.
    """

    published = "ppc"

    def __init__(
        self,
        num_classes: int,
        intra_view: bool | None = None,
        shared_projection: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        self.intra_view = self.fbr is None if intra_view is None else intra_view
        if shared_projection and self.fbr is not None:
            if (dim := self.fbr.config.dim) != PROJECTION:
                raise InputError(f"shared_projection needs the fbr setting dim={PROJECTION}, got {dim}")
            self.fbr.heads.foreground = self.head.get_parameter("projection.weight")


def second_view_size(side: int, stride: int) -> int:
    """The side of the second view: 2/7 of the crop, but at least 8 feature pixels or half the crop."""
    return max(round(side * 2 / 7), min(side // 2, 8 * stride), 1)
