"""IRN: class boundaries, over which seeds spread, and displacements towards the centres of instances.

After Ahn, Cho, Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (CVPR
2019), and the released code, jiwoon-ahn/irn at a2ece00.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from fbr_plugin.baselines.irn.losses import irn_losses
from fbr_plugin.baselines.irn.network import BoundaryBranch, DisplacementBranch, Grid
from fbr_plugin.baselines.tasks.encoder_task import Batch, EncoderTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.errors import InputError
from fbr_plugin.functional import random_walk, resize


class IRN(EncoderTask):
    """Inter-pixel relations on a frozen encoder: it needs affinity labels as `pseudo_label` to train on.

    Boundaries and displacements are on the grid of one of the encoder's levels. SGD runs without momentum, as
    in effect in the released code.

    Args:
        num_classes: number of foreground classes C.
        radius: pairs of pixels less than this many pixels of the grid apart are trained on.
        finest_stride: image pixels per pixel of the grid, or those of the encoder's next coarser level.
        walk_radius: pixels of the grid less than this far apart exchange scores in a step of the random walk.
        walk_beta: exponent of their affinities; the larger, the stricter the boundaries.
        walk_steps: steps of the walk. Scores travel some 40 pixels in 256: take fewer on a small grid.
        max_memory: bytes that a walk may take.
        optimizer: see `OptimizerConfig`; `lr` is of the boundaries' layers, `head_lr` of the displacements'.
        kwargs: see `EncoderTask`. The encoder is not trained: it needs `weights` or `pretrained`.
    """

    prediction_only = ("walk_radius", "walk_beta", "walk_steps", "max_memory")

    def __init__(
        self,
        num_classes: int,
        radius: int = 10,
        finest_stride: int = 4,
        walk_radius: int = 5,
        walk_beta: float = 10.0,
        walk_steps: int = 256,
        max_memory: int = 2**30,
        optimizer: OptimizerConfig = OptimizerConfig(lr=0.1, head_lr=1.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, optimizer=optimizer, **kwargs)
        if radius < 2:
            raise InputError(f"radius must be at least 2 for pixels to have neighbours, got {radius}")
        random_walk.check_settings(walk_radius, walk_beta, walk_steps)  # now, not after the training
        if finest_stride > max(self.encoder.strides):
            raise InputError(
                f"finest_stride={finest_stride} is coarser than all levels of the encoder, whose strides are "
                f"{', '.join(map(str, self.encoder.strides))}"
            )
        self.encoder.requires_grad_(False).eval()
        levels = (self.encoder.channels, self.encoder.strides)
        self.grid_stride = min(stride for stride in self.encoder.strides if stride >= finest_stride)
        self.boundary_branch = BoundaryBranch(*levels)
        self.displacement_branch = DisplacementBranch(*levels)

    def train(self, mode: bool = True) -> "IRN":
        """Set the mode, but leave the encoder in evaluation."""
        super().train(mode)
        self.encoder.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters of the two branches, each with its learning rate."""
        return [
            {"params": list(self.boundary_branch.parameters()), "lr": self.optimizer.lr},
            {"params": list(self.displacement_branch.parameters()), "lr": self.optimizer.head_lr},
        ]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map image: [B, 3, H, W] to logits of a boundary [B, h, w] and displacements [B, 2, h, w]."""
        levels, grid = self._encode(image)
        return self.boundary_branch(levels, grid), self.displacement_branch(levels, grid)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The losses of the pairs of pixels whose labels are known."""
        if "pseudo_label" not in batch:
            raise InputError(
                "IRN trains on affinity labels, and the batch has no 'pseudo_label': make them of seeds by "
                "`fbr-plugin predict ... --thresholds FG BG`, and give the data module their folder as "
                "pseudo_label_dir"
            )
        logits, displacement = self(batch["image"])
        pseudo_label = batch["pseudo_label"][:, None].float()
        label = interpolate(pseudo_label, logits.shape[-2:], mode="nearest-exact")[:, 0].long()
        with torch.autocast(logits.device.type, enabled=False):
            losses = irn_losses(logits.float().sigmoid(), displacement.float(), label, self.hparams["radius"])
        terms = {
            "train/loss": losses.total,
            "train/positive": losses.positive,
            "train/negative": losses.negative,
            "train/displacement": losses.displacement,
        }
        self.log_dict(terms, batch_size=len(logits))
        return losses.total

    @torch.no_grad()
    def boundary(self, image: Tensor) -> Tensor:
        """The strength of a class boundary, its logits averaged with those of the mirror image.

        Args:
            image: [B, 3, H, W].

        Returns:
            [B, h, w] in [0, 1], of h = ceil(H / grid_stride) rows.
        """
        height, width = image.shape[-2:]
        # The mirror image has the same grid only if the grid ends with the image.
        padding = (0, -width % self.grid_stride, 0, -height % self.grid_stride)
        image = pad(image, padding, mode="replicate")
        plain, mirrored = (self.boundary_branch(*self._encode(view)) for view in (image, image.flip(-1)))
        return torch.sigmoid(((plain + mirrored.flip(-1)) / 2).float())

    @torch.no_grad()
    def propagate(self, image: Tensor, scores: Tensor) -> Tensor:
        """Let the scores of an image walk at random between its boundaries.

        Args:
            image: [1, 3, H, W].
            scores: [K, H', W'] of the image's classes, at the image's size or another.

        Returns:
            [K, H', W'] at the scores' size, divided by the maximum over all classes.
        """
        if len(image) != 1 or image.ndim != 4 or scores.ndim != 3:
            raise InputError(
                "a walk is over one image [1, 3, H, W] with scores [K, H', W'], got "
                f"{tuple(image.shape)} and {tuple(scores.shape)}"
            )
        if not len(scores):
            return scores
        size, own_size = image.shape[-2:], scores.shape[-2:]
        coarse = avg_pool2d(resize(scores[None].float(), size), self.grid_stride, ceil_mode=True)[0]
        settings = [self.hparams[name] for name in ("walk_radius", "walk_beta", "walk_steps", "max_memory")]
        walked = random_walk.propagate(coarse, self.boundary(image)[0], *settings)
        fine = Grid(1, *size).fit(walked[None], self.grid_stride)
        walked = resize(fine, own_size)[0]
        return walked / walked.max().clamp(min=torch.finfo(walked.dtype).tiny)

    @torch.no_grad()
    def _encode(self, image: Tensor) -> tuple[list[Tensor], Grid]:
        """The levels of image: [B, 3, H, W], and the grid that predictions are on."""
        height, width = (-(-side // self.grid_stride) for side in image.shape[-2:])
        return self.encoder(image), Grid(self.grid_stride, height, width)
