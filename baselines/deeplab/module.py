"""DeepLab-v2: the segmentation network that is trained on pseudo masks, without image labels.

After Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
Fully Connected CRFs (TPAMI 2018), trained as usual in the field (deeplab-pytorch, commit 4219467), or as PPC
does (usr922/wseg, commit e96b961).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fbr_plugin.baselines.deeplab.losses import balanced_cross_entropy, mean_cross_entropy
from fbr_plugin.baselines.deeplab.network import HEADS, fused_logits
from fbr_plugin.baselines.encoders.resnet101 import ResNet101
from fbr_plugin.baselines.encoders.timm_encoder import TimmEncoder
from fbr_plugin.baselines.tasks.encoder_task import Batch, EncoderTask, check_masks, original_sizes
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.contract import MaskPrediction
from fbr_plugin.data.dataset import photos
from fbr_plugin.errors import InputError, check_choice
from fbr_plugin.functional import resize
from fbr_plugin.metrics import SegmentationScore
from fbr_plugin.postprocess.multi_scale import multi_scale_scores, upsample_scores
from fbr_plugin.postprocess.refine import Method, refine


class DeepLabV2(EncoderTask):
    """A segmentation network, which needs `pseudo_label` in its training batches.

    Validation uses the image at its own scale. Test and predict average the logits of several scales and of
    the mirror images, and can refine their softmax along the edges of the original photo. Logits are
    upsampled to the size of the labels, in training as in test. For averaged weights, use Lightning's
    callback `EMAWeightAveraging` (`examples/folder_deeplab.yaml`).

    Args:
        num_classes: number of foreground classes C.
        rates: dilation rates of the head; smaller ones for small feature grids.
        balanced: whether background and foreground pixels contribute half of the loss each, instead of all
            pixels equally.
        scales: image scales averaged in test and predict.
        flip: whether each of these scales includes the mirror image.
        refine: method that refines the probabilities in test and predict: "crf", "deeplab_crf" (with
            DeepLab-v2's own distances and weights), "pamr", or None.
        frozen_norm: freeze the encoder's batch normalisation, which suits pretrained weights.
        head: "sum" adds up the logits of the dilated convolutions. "concat" joins their features, and those
            of the pooled image, by a 1x1 convolution before the classifier, as PPC's DeepLab does.
        released: train and predict as the released code of the head does. In both, biases of the head have
            twice its learning rate and no weight decay.
            With "sum", this is deeplab-pytorch, whose encoder is "resnet101_deeplab". The network sees each
            image at 1, 0.75 and 0.5 of its size. The loss is the sum of the losses of these three and of
            their maximum, each against labels reduced to its grid; predictions are the maximum.
            With "concat", this is PPC's, whose encoder is "resnet101s". Logits are upsampled with aligned
            corners, and the scales and shifts of batch normalisation are not trained.
        optimizer: see `OptimizerConfig`.
        encoder: see `EncoderTask`.
        output_stride: image pixels per pixel of the encoder's last level; None takes 8 for models of timm and
            torchvision, and an encoder's own otherwise.
        kwargs: see `EncoderTask`.
    """

    default_stride = 8
    ranked_by = ("miou",)
    prediction_only = ("scales", "flip", "refine")

    def __init__(
        self,
        num_classes: int,
        rates: tuple[int, ...] = (6, 12, 18, 24),
        balanced: bool = True,
        scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        flip: bool = True,
        refine: Method | None = None,
        frozen_norm: bool = False,
        head: Literal["sum", "concat"] = "sum",
        released: bool = False,
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
        check_choice("head", head, tuple(HEADS))
        self.head = HEADS[head](self.feature_channels, num_classes, rates)
        self.scores = SegmentationScore(num_classes)
        self.fused, self.aligned = released and head == "sum", released and head == "concat"
        if frozen_norm:
            self.freeze_norm()
        for module in self.modules() if self.aligned else ():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] to logits [B, 1+C, h, w] at stride `stride`.

        With `released`, the grid is as the encoder makes it: that of `ResNet101` may be one row and column
        larger, and `TimmEncoder` does not complete the last cells of the image.
        """
        encoder = self.encoder
        if (self.fused and isinstance(encoder, ResNet101)) or (
            self.aligned and isinstance(encoder, TimmEncoder)
        ):
            levels = encoder.whole_levels(image)
        else:
            levels = encoder(image)
        logits: Tensor = self.head(levels[-1])
        return logits

    def full_logits(self, image: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] to logits [B, 1+C, H, W]."""
        size = image.shape[-2:]
        if self.fused:
            return resize(fused_logits(self, image)[-1], size)
        if self.aligned:
            return resize(self(image).float(), size, align_corners=True)
        return upsample_scores(self(image).float(), size, self.stride)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters by learning rate, with `released` the biases of the head apart."""
        encoder, head = super().parameter_groups()
        if not self.hparams["released"]:
            return [encoder, head]
        trained = [(name, each) for name, each in self.head.named_parameters() if each.requires_grad]
        weights, biases = replace(self.optimizer, bias_lr=2).groups(trained, self.optimizer.head_lr)
        return [encoder, weights, {**biases, "weight_decay": 0.0}]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The cross-entropy on the pseudo labels."""
        if "pseudo_label" not in batch:
            raise InputError(
                "DeepLabV2 trains on pseudo labels, and the batch has no 'pseudo_label': give the data "
                "module the folder of pseudo masks ID.png as pseudo_label_dir"
            )
        image, target = batch["image"], batch["pseudo_label"]
        criterion = balanced_cross_entropy if self.hparams["balanced"] else mean_cross_entropy
        if self.fused:
            pairs = [(each, reduced(target, each.shape[-2:])) for each in fused_logits(self, image)]
        else:
            pairs = [(self.full_logits(image), target)]
        loss = torch.stack([criterion(logits, labels) for logits, labels in pairs]).sum()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(image))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Count the masks of a batch, predicted at the images' own scale, and return them."""
        check_masks(batch)
        return self._counted(self.full_logits(batch["image"]).argmax(1), batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Count the masks of a batch, at all scales and refined, and return them."""
        check_masks(batch)
        maps = self.probabilities(batch["image"])
        if self.hparams["refine"]:
            size = batch["mask"].shape[-2:]
            maps = torch.cat([resize(each[None], size) for each in self.refined(maps, batch)])
        return self._counted(maps.argmax(1), batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> MaskPrediction:
        """The masks of a batch, at the images' sizes on disk."""
        maps = self.refined(self.probabilities(batch["image"]), batch)
        return MaskPrediction(batch["id"], [each.argmax(0) for each in maps])

    def probabilities(self, image: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] to the probabilities [B, 1+C, H, W] of all scales."""
        scales, mirrored = self.hparams["scales"], (False, True) if self.hparams["flip"] else (False,)
        logits = multi_scale_scores(
            lambda view, _: self.full_logits(view),
            image,
            None,
            1,
            scales,
            mirrored,
            align_corners=self.aligned,
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

    def _counted(self, masks: Tensor, batch: Batch) -> MaskPrediction:
        self.scores.update(masks, batch["mask"])
        return MaskPrediction(batch["id"], list(masks))

    def compute_metrics(self) -> dict[str, float]:
        """The metrics of a set in percent; the IoU of each class is in `self.scores.compute().iou`."""
        result = self.scores.compute()._asdict()
        return {name: result[name] for name in ("miou", "recall", "precision", "accuracy")}


def reduced(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels [B, H, W] on a smaller grid of this size, each that of the nearest pixel."""
    return interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].long()
