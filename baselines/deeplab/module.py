"""DeepLab-v2: the segmentation network that is trained on pseudo masks, without image labels.

After Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
Fully Connected CRFs (TPAMI 2018), trained as usual in the field (deeplab-pytorch, commit 4219467).
"""

from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fbr_plugin.baselines.deeplab.losses import balanced_cross_entropy
from fbr_plugin.baselines.deeplab.network import ASPP
from fbr_plugin.baselines.tasks.encoder_task import Batch, EncoderTask, check_masks, original_sizes
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.contract import MaskPrediction
from fbr_plugin.data.dataset import photos
from fbr_plugin.data.readers.images import IGNORE
from fbr_plugin.errors import InputError, check_choice
from fbr_plugin.functional import resize
from fbr_plugin.metrics import SegmentationScore
from fbr_plugin.postprocess.multi_scale import multi_scale_scores, upsample_scores
from fbr_plugin.postprocess.refine import Method, refine


class DeepLabV2(EncoderTask):
    """A segmentation network, which needs `pseudo_label` in its training batches.

    Validation uses the image at its own scale. Test and predict average the logits of several scales and of
    the mirror images, and can refine their softmax along the edges of the original photo.

    Logits are upsampled to the size of the labels, as in test. The published code instead downsamples the
    labels to the grid of the logits, and sums the cross-entropies of three scales and of their maximum. For
    averaged weights, use Lightning's callback `EMAWeightAveraging` (`examples/folder_deeplab.yaml`).

    Args:
        num_classes: number of foreground classes C.
        rates: dilation rates of the head; smaller ones for small feature grids.
        balanced: whether background and foreground pixels contribute half of the loss each, instead of all
            pixels equally.
        scales: image scales averaged, each with its mirror image, in test and predict.
        refine: method that refines the probabilities in test and predict: a dense CRF, PAMR, or None.
        frozen_norm: freeze the encoder's batch normalisation, which suits pretrained weights.
        optimizer: see `OptimizerConfig`.
        encoder: see `EncoderTask`.
        output_stride: image pixels per pixel of the encoder's last level; None takes 8 for models of timm and
            torchvision, and an encoder's own otherwise.
        kwargs: see `EncoderTask`.
    """

    default_stride = 8
    prediction_only = ("scales", "refine")

    def __init__(
        self,
        num_classes: int,
        rates: tuple[int, ...] = (6, 12, 18, 24),
        balanced: bool = True,
        scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        refine: Method | None = None,
        frozen_norm: bool = False,
        optimizer: OptimizerConfig = OptimizerConfig(
            lr=2.5e-4, head_lr=2.5e-3, weight_decay=5e-4, momentum=0.9
        ),
        encoder: str = "resnet101",
        output_stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes, optimizer=optimizer, encoder=encoder, output_stride=output_stride, **kwargs
        )
        check_choice("refine", refine, (*get_args(Method), None))
        self.head = ASPP(self.feature_channels, num_classes, rates)
        self.scores = SegmentationScore(num_classes)
        norms = (module for module in self.encoder.modules() if isinstance(module, nn.BatchNorm2d))
        self.frozen = [norm.requires_grad_(False) for norm in norms] if frozen_norm else []
        self.train()

    def train(self, mode: bool = True) -> "DeepLabV2":
        """Set the mode, but leave frozen batch normalisation in evaluation mode."""
        super().train(mode)
        for norm in self.frozen:
            norm.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] to logits [B, 1+C, h, w] at stride `stride`."""
        logits: Tensor = self.head(self.encoder(image)[-1])
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The cross-entropy on the pseudo labels."""
        if "pseudo_label" not in batch:
            raise InputError(
                "DeepLabV2 trains on pseudo labels, and the batch has no 'pseudo_label': give the data "
                "module the folder of pseudo masks ID.png as pseudo_label_dir"
            )
        image, target = batch["image"], batch["pseudo_label"]
        logits = upsample_scores(self(image).float(), target.shape[-2:], self.stride)
        if self.hparams["balanced"]:
            loss = balanced_cross_entropy(logits, target)
        else:
            total = cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
            loss = total / (target != IGNORE).sum().clamp(min=1)
        self.log("train/loss", loss, batch_size=len(image))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the masks of a batch, predicted at the images' own scale."""
        check_masks(batch)
        image = batch["image"]
        logits = upsample_scores(self(image).float(), image.shape[-2:], self.stride)
        self.scores.update(logits.argmax(1), batch["mask"])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the masks of a batch, at all scales and refined."""
        check_masks(batch)
        maps = self.probabilities(batch["image"])
        if self.hparams["refine"]:
            size = batch["mask"].shape[-2:]
            maps = torch.cat([resize(each[None], size) for each in self.refined(maps, batch)])
        self.scores.update(maps.argmax(1), batch["mask"])

    def predict_step(self, batch: Batch, batch_idx: int) -> MaskPrediction:
        """The masks of a batch, at the images' sizes on disk."""
        maps = self.refined(self.probabilities(batch["image"]), batch)
        return MaskPrediction(batch["id"], [each.argmax(0) for each in maps])

    def probabilities(self, image: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] to the probabilities [B, 1+C, H, W] of all scales."""
        logits = multi_scale_scores(
            lambda view, _: self(view).float(), image, None, self.stride, self.hparams["scales"]
        )
        return logits.softmax(1)

    def refined(self, maps: Tensor, batch: Batch) -> list[Tensor]:
        """Maps [B, 1+C, H, W] of a batch, each [1+C, H', W'] at its photo's size, and refined if set."""
        sized, method = original_sizes(maps, batch), self.hparams["refine"]
        if method is None:
            return sized
        pairs = zip(photos(batch), (each.cpu().numpy() for each in sized), strict=True)
        refined = [refine(photo, scores, method, device=self.device) for photo, scores in pairs]
        return [torch.from_numpy(each).to(self.device) for each in refined]

    def compute_metrics(self) -> dict[str, float]:
        """The metrics of a set in percent; the IoU of each class is in `self.scores.compute().iou`."""
        result = self.scores.compute()._asdict()
        return {name: result[name] for name in ("miou", "recall", "precision", "accuracy")}
