"""IRN: class boundaries, between which seeds propagate, and displacements towards instance centres.

After Ahn, Cho, Kwak, Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations (CVPR
2019), and the released code, jiwoon-ahn/irn at a2ece00.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from fbr_plugin.baselines.irn.instances import Relations, check_classes, find_instances
from fbr_plugin.baselines.irn.losses import irn_losses
from fbr_plugin.baselines.irn.network import BoundaryBranch, DisplacementBranch, Grid
from fbr_plugin.baselines.tasks.encoder_task import Batch, EncoderTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.errors import InputError, UsageError
from fbr_plugin.functional import random_walk, resize
from fbr_plugin.instances import Instances


class IRN(EncoderTask):
    """Inter-pixel relations on a frozen encoder, trained on affinity labels as `pseudo_label`.

    Boundaries and displacements are predicted on the grid of one of the encoder's levels.

    Args:
        num_classes: number of foreground classes C.
        radius: training uses pairs of pixels less than this many grid pixels apart.
        finest_stride: image pixels per pixel of the grid, or those of the encoder's next coarser level.
        walk_radius: grid pixels less than this far apart exchange scores in a step of the random walk.
        walk_beta: exponent of their affinities; the larger, the stricter the boundaries.
        walk_steps: steps of the walk. Scores travel about 40 pixels in 256 steps: use fewer on a small grid.
        walk_canvas: with `released`, side in pixels to which images are padded with the mean colour for the
            walk; 0, as for COCO in AMN's code, pads none.
        max_memory: bytes that a walk may use.
        released: as in the released code, ReLU follows the upsampling in both branches, the losses leave out
            pairs at the border, images are padded to `walk_canvas`, and scores come to the walk's grid by
            bilinear interpolation instead of averaging. The released encoder is "resnet50_irn".
        optimizer: see `OptimizerConfig`; `lr` applies to the boundary layers, `head_lr` to the displacement
            layers.
        kwargs: see `EncoderTask`. The encoder is not trained: it needs `weights` or `pretrained`.
    """

    prediction_only = ("walk_radius", "walk_beta", "walk_steps", "walk_canvas", "max_memory")

    def __init__(
        self,
        num_classes: int,
        radius: int = 10,
        finest_stride: int = 4,
        walk_radius: int = 5,
        walk_beta: float = 10.0,
        walk_steps: int = 256,
        walk_canvas: int = 512,
        max_memory: int = 2**30,
        released: bool = False,
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
        levels = (self.encoder.channels, self.encoder.strides, released)
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
        """The losses over pairs of labelled pixels."""
        if "pseudo_label" not in batch:
            raise InputError(
                "IRN trains on affinity labels, and the batch has no 'pseudo_label': make them from seeds by "
                "`fbr-plugin predict ... --thresholds FG BG`, and give the data module their folder as "
                "pseudo_label_dir"
            )
        logits, displacement = self(batch["image"])
        pseudo_label = batch["pseudo_label"][:, None].float()
        label = interpolate(pseudo_label, logits.shape[-2:], mode="nearest-exact")[:, 0].long()
        with torch.autocast(logits.device.type, enabled=False):
            pairs = self.hparams["radius"], self.hparams["released"]
            losses = irn_losses(logits.float().sigmoid(), displacement.float(), label, *pairs)
        self.log("train/loss", losses.total, prog_bar=True, batch_size=len(logits))
        terms = {
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
        return self._strength(
            image, *(self.boundary_branch(*self._encode(view)) for view in self._views(image))
        )

    @torch.no_grad()
    def relations(self, image: Tensor) -> Relations:
        """The boundaries and displacements of image: [B, 3, H, W], by one pass of the encoder.

        Returns:
            `boundary` [B, h, w], see that method, and `displacement` [B, 2, h, w] in pixels of the grid, that
            of the image alone as in the released code.
        """
        if self.training:
            raise UsageError("call eval() first: in training, the mean displacement is not subtracted")
        rows, columns = self._grid(image)
        plain, mirrored = (self._encode(view) for view in self._views(image))
        boundary = self._strength(image, self.boundary_branch(*plain), self.boundary_branch(*mirrored))
        return Relations(boundary, self.displacement_branch(*plain)[..., :rows, :columns].float())

    @torch.no_grad()
    def propagate(self, image: Tensor, scores: Tensor) -> Tensor:
        """Propagate the scores of an image by a random walk between its boundaries.

        Args:
            image: [1, 3, H, W].
            scores: [K, H', W'] of the image's classes, at the image's size or another.

        Returns:
            [K, H', W'] at the scores' size, divided by the maximum over all classes.
        """
        random_walk.check_image(image, scores)
        if not len(scores):
            return scores
        walked = self._walk(image, scores, self._coarse(image, scores), self.boundary(image)[0])
        return walked / walked.max().clamp(min=torch.finfo(walked.dtype).tiny)

    @torch.no_grad()
    def instances(
        self,
        image: Tensor,
        scores: Tensor,
        classes: Tensor,
        background: float = 0.25,
        centroid_steps: int = 300,
        cluster_threshold: float = 2.5,
        min_share: float = 0.01,
        join: bool = False,
    ) -> Instances:
        """The instances of an image, by the clusters of its displacement field and a walk from each.

        Args:
            image: [1, 3, H, W].
            scores: [K, H', W'] of the image's classes, at the image's size or another.
            classes: [K] int64, their numbers 1..C.
            background: score of the background; the highest score of all is 1.
            centroid_steps: see `find_instances`, as the rest. All defaults are the published values.

        Returns:
            N instances with `masks` [N, H', W'], `labels` and `scores`; N may be 0.
        """
        random_walk.check_image(image, scores)
        check_classes(classes, len(scores), self.num_classes)
        boundary, displacement = (maps[0] for maps in self.relations(image))
        return find_instances(
            displacement,
            self._coarse(image, scores),
            classes.to(image.device, torch.int64),
            lambda maps: self._walk(image, scores, maps, boundary),
            *(scores.shape[-2:], background, centroid_steps, cluster_threshold, min_share, join),
            max_memory=self.hparams["max_memory"],
        ).instances

    def _views(self, image: Tensor) -> list[Tensor]:
        """image: [B, 3, H, W] and its mirror image, both padded at the right and below."""
        height, width = image.shape[-2:]
        if self.hparams["released"]:
            canvas = self.hparams["walk_canvas"]
            padding = (0, max(canvas - width, 0), 0, max(canvas - height, 0))
            return [pad(view, padding) for view in (image, image.flip(-1))]
        # The mirror image has the same grid only if the grid ends with the image.
        image = pad(image, (0, -width % self.grid_stride, 0, -height % self.grid_stride), mode="replicate")
        return [image, image.flip(-1)]

    def _strength(self, image: Tensor, plain: Tensor, mirrored: Tensor) -> Tensor:
        """The boundary [B, h, w] of image: [B, 3, H, W], from the logits of its two padded views."""
        rows, columns = self._grid(image)
        plain, mirrored = (logits[:, :rows, :columns] for logits in (plain, mirrored))
        return torch.sigmoid(((plain + mirrored.flip(-1)) / 2).float())

    def _coarse(self, image: Tensor, scores: Tensor) -> Tensor:
        """Bring the scores [K, H', W'] of an image to the grid of the walk: [K, h, w]."""
        if not len(scores):
            return scores.new_zeros(0, *self._grid(image))
        full = resize(scores[None].float(), image.shape[-2:])
        if self.hparams["released"]:
            return resize(full, self._grid(image))[0]
        return avg_pool2d(full, self.grid_stride, ceil_mode=True)[0]

    def _walk(self, image: Tensor, scores: Tensor, maps: Tensor, boundary: Tensor) -> Tensor:
        """Propagate maps: [n, h, w] of the grid, and bring them to the size of the scores: [n, H', W']."""
        settings = [self.hparams[name] for name in ("walk_radius", "walk_beta", "walk_steps", "max_memory")]
        walked = random_walk.propagate(maps, boundary, *settings)
        fine = Grid(1, *image.shape[-2:]).fit(walked[None], self.grid_stride)
        return resize(fine, scores.shape[-2:])[0]

    @torch.no_grad()
    def _encode(self, image: Tensor) -> tuple[list[Tensor], Grid]:
        """The levels of image: [B, 3, H, W], and the grid of the predictions."""
        return self.encoder(image), Grid(self.grid_stride, *self._grid(image))

    def _grid(self, image: Tensor) -> tuple[int, int]:
        """Height and width of the predictions' grid for image: [B, 3, H, W]."""
        height, width = (-(-side // self.grid_stride) for side in image.shape[-2:])
        return height, width
