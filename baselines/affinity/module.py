"""AffinityNet: semantic affinities of neighbouring pixels, by which seeds spread over their image.

`network` cites the paper and the released code.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from fbr_plugin.baselines.affinity.network import AffinityHead, affinity, affinity_losses, inner_starts
from fbr_plugin.baselines.tasks.encoder_task import Batch, EncoderTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.errors import InputError
from fbr_plugin.functional import random_walk, resize


class AffinityNet(EncoderTask):
    """Affinities of pixels of an encoder's grid, trained on labels as `pseudo_label`.

    In the pipeline it takes the place of IRN, as `irn.model`. SGD runs without momentum; that of the released
    code is in effect 0.0005.

    Args:
        num_classes: number of foreground classes C.
        radius: pixels less than this many grid pixels apart have an affinity, in training and in the walk.
        border_pairs: whether pairs count that begin less than `radius` from the left, right or lower border;
            False in the released code.
        walk_beta: exponent of the affinities; the larger, the stricter.
        walk_steps: steps of the random walk.
        optimizer: see `OptimizerConfig`.
        encoder: see `EncoderTask`; its last three levels are used.
        kwargs: see `EncoderTask`.
    """

    prediction_only = ("walk_beta", "walk_steps")

    def __init__(
        self,
        num_classes: int,
        radius: int = 5,
        border_pairs: bool = True,
        walk_beta: float = 8.0,
        walk_steps: int = 64,
        optimizer: OptimizerConfig = OptimizerConfig(lr=0.01, head_lr=0.1, weight_decay=5e-4),
        encoder: str = "resnet38d",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, optimizer=optimizer, encoder=encoder, **kwargs)
        if radius < 2:
            raise InputError(f"radius must be at least 2 for pixels to have neighbours, got {radius}")
        random_walk.check_settings(radius, walk_beta, walk_steps)
        if len(self.encoder.channels) < 3:
            raise InputError(
                f"AffinityNet needs an encoder with three levels, {encoder!r} has "
                f"{len(self.encoder.channels)}; resnet38d, small and timm's convolutional models have them"
            )
        self.head = AffinityHead(self.encoder.channels[-3:])

    def forward(self, image: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] to features [B, 448, h, w], whose distances are affinities."""
        features: Tensor = self.head(self.encoder(image)[-3:])
        return features

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The losses over pairs of labelled pixels."""
        if "pseudo_label" not in batch:
            raise InputError(
                "AffinityNet trains on labels, and the batch has no 'pseudo_label': make them from seeds by "
                "`fbr-plugin predict ... --thresholds FG BG`, and give the data module their folder as "
                "pseudo_label_dir"
            )
        features = self(batch["image"])
        pseudo_label = batch["pseudo_label"][:, None].float()
        label = interpolate(pseudo_label, features.shape[-2:], mode="nearest-exact")[:, 0].long()
        with torch.autocast(features.device.type, enabled=False):
            pairs = self.hparams["radius"], self.hparams["border_pairs"]
            losses = affinity_losses(features.float(), label, *pairs)
        logged = {f"train/{name}": value.detach() for name, value in losses._asdict().items()}
        self.log("train/loss", logged.pop("train/total"), prog_bar=True, batch_size=len(label))
        self.log_dict(logged, batch_size=len(label))
        return losses.total

    @torch.no_grad()
    def propagate(self, image: Tensor, scores: Tensor) -> Tensor:
        """Spread the scores of an image by a random walk over its affinities.

        Args:
            image: [1, 3, H, W].
            scores: [K, H', W'] of the image's classes and background, at the image's size or another.

        Returns:
            [K, H', W'] at the scores' size. A score that is the same everywhere stays so.
        """
        random_walk.check_image(image, scores)
        if not len(scores):
            return scores
        size, own_size = image.shape[-2:], scores.shape[-2:]
        margin = (0, -size[1] % self.stride, 0, -size[0] % self.stride)
        features = self(pad(image, margin))[0].double()
        coarse = avg_pool2d(pad(resize(scores[None].double(), size), margin), self.stride)[0]
        transition = self.transition(features)
        walked = random_walk.walk(coarse, transition, self.hparams["walk_steps"])[None]
        fine = interpolate(walked, scale_factor=self.stride, mode="bilinear")[..., : size[0], : size[1]]
        return resize(fine, own_size)[0].to(torch.promote_types(scores.dtype, torch.float32))

    def transition(self, features: Tensor) -> Tensor:
        """The sparse matrix [h*w, h*w] of a step of the walk, from features [448, h, w]."""
        radius, beta = self.hparams["radius"], self.hparams["walk_beta"]
        grid = features[0]
        starts = torch.ones_like(grid) if self.hparams["border_pairs"] else inner_starts(grid, radius)

        def weight(path: random_walk.Path) -> Tensor:
            alike: Tensor = affinity(features, path) ** beta
            return alike * random_walk.neighbours(starts, path[-1])

        return random_walk.step_matrix(weight, grid, radius)
