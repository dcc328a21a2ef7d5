"""Mask R-CNN: the network of instances that is trained on pseudo instances, without image labels.

After He et al., Mask R-CNN (ICCV 2017), with a feature pyramid after Lin et al., Feature Pyramid Networks for
Object Detection (CVPR 2017). The network after the encoder is torchvision's.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fbr_plugin.baselines.encoders.protocol import freeze_levels
from fbr_plugin.baselines.mask_rcnn.network import AT_ONCE, InstanceHead, Targets, boxes_of, paste
from fbr_plugin.baselines.tasks.encoder_task import Batch, EncoderTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.errors import InputError
from fbr_plugin.functional import resize
from fbr_plugin.instances import InstancePrediction, Instances
from fbr_plugin.metrics import InstanceAP


class MaskRCNN(EncoderTask):
    """A network of instances, which needs `instances` in its training batches.

    Training takes images as the data module makes them, at the size of its crops. Crowds and ignored pixels
    are left out as objects. An image without any instance is an example of background.

    Args:
        num_classes: number of foreground classes C.
        width: channels of the feature pyramid and of the masks' layers; the boxes' layers have four times as
            many.
        anchor_scale: side of the anchors in pixels of their level of the pyramid, whose levels are those of
            the encoder from stride 4 on and one of twice its last stride. With the published 8 and strides
            of 4 to 64, the sides are 32 to 512 pixels; small images need smaller ones.
        rois_per_image: regions of an image on which boxes and masks are trained, a quarter of them on objects
            at most.
        group_norm: normalise the pyramid's features by groups of channels, which encoders without
            normalisation need, such as SqueezeNet; the published pyramid has no normalisation.
        frozen_levels: number of the encoder's first levels whose weights are not trained.
        frozen_norm: freeze the encoder's batch normalisation, which suits pretrained weights.
        min_size: shorter side in pixels to which images are resized outside training; None: as they are.
        max_size: longest side to which `min_size` may lead.
        score_threshold: lowest score of a predicted instance.
        max_detections: most predicted instances in an image, those of the highest scores.
        mask_threshold: lowest probability of a mask's pixels.
        optimizer: see `OptimizerConfig`.
        encoder: see `EncoderTask`; "torchvision/resnet50" without `group_norm` is the network of
            torchvision's `maskrcnn_resnet50_fpn`.
        output_stride: image pixels per pixel of the encoder's last level; None takes 32 for models of timm
            and torchvision, and an encoder's own otherwise.
        kwargs: see `EncoderTask`.
    """

    default_stride = 32
    ranked_by = ("ap_50",)
    head: InstanceHead
    prediction_only = ("min_size", "max_size", "score_threshold", "max_detections", "mask_threshold")

    def __init__(
        self,
        num_classes: int,
        width: int = 256,
        anchor_scale: float = 8.0,
        rois_per_image: int = 512,
        group_norm: bool = True,
        frozen_levels: int = 0,
        frozen_norm: bool = False,
        min_size: int | None = None,
        max_size: int = 1333,
        score_threshold: float = 0.05,
        max_detections: int = 100,
        mask_threshold: float = 0.5,
        optimizer: OptimizerConfig = OptimizerConfig(lr=0.02, head_lr=0.02, momentum=0.9, warmup_steps=500),
        encoder: str = "resnet50",
        output_stride: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes, optimizer=optimizer, encoder=encoder, output_stride=output_stride, **kwargs
        )
        self._check_settings()
        sizes = (width, anchor_scale, rois_per_image, group_norm, score_threshold, max_detections)
        self.head = InstanceHead(self.encoder.channels, self.encoder.strides, num_classes, *sizes)
        freeze_levels(self.encoder, frozen_levels)
        if frozen_norm:
            self.freeze_norm()
        self.scores = InstanceAP(num_classes)

    def forward(self, image: Tensor, targets: Targets | None = None) -> tuple[Targets, dict[str, Tensor]]:
        """Detections in image: [B, 3, H, W], or the losses on `targets`: see `InstanceHead`."""
        height, width = image.shape[-2:]
        whole = pad(image, (0, -width % self.head.stride, 0, -height % self.head.stride))
        result: tuple[Targets, dict[str, Tensor]] = self.head(whole, self.encoder(whole), targets)
        return result

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the losses of proposals, boxes and masks."""
        if "instances" not in batch:
            raise InputError(
                "MaskRCNN trains on instances, and the batch has no 'instances': give the data module the "
                "folder of pseudo instances ID.json as pseudo_instance_dir, or train on the true ones with "
                "instances='all'"
            )
        targets = [target_of(each) for each in batch["instances"]]
        _, losses = self(batch["image"], targets)
        loss = torch.stack(list(losses.values())).sum()
        named = {f"train/{name.removeprefix('loss_')}": value for name, value in losses.items()}
        self.log("train/loss", loss, prog_bar=True, batch_size=len(targets))
        self.log_dict(named, batch_size=len(targets))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Compare the predicted instances of a batch with the true ones, at the images' sizes on disk."""
        if "instances" not in batch:
            raise InputError(
                f"there are no instances to score {batch['id'][0]!r} with: set the data module's instances "
                "to 'eval', use predict instead of test, or fit with limit_val_batches=0"
            )
        self.scores.update(self.detect(batch), batch["instances"])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Compare the predicted instances of a batch with the true ones, at the images' sizes on disk."""
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> InstancePrediction:
        """The instances of a batch, at the images' sizes on disk."""
        return InstancePrediction(batch["id"], self.detect(batch))

    @torch.no_grad()
    def detect(self, batch: Batch) -> list[Instances]:
        """The instances of each image of a batch, at its size on disk."""
        image = self.resized(batch["image"])
        found, _ = self(image)
        frame = image.shape[-2:]
        sizes = batch["size"].tolist() if "size" in batch else [batch["image"].shape[-2:]] * len(found)
        return [self._instances(each, frame, size) for each, size in zip(found, sizes, strict=True)]

    def resized(self, image: Tensor) -> Tensor:
        """An image [B, 3, H, W] at the size at which it is evaluated."""
        least, most = self.hparams["min_size"], self.hparams["max_size"]
        if least is None:
            return image
        sides = image.shape[-2:]
        scale = min(least / min(sides), most / max(sides))
        return resize(image, [max(1, round(scale * side)) for side in sides])

    def _instances(self, found: dict[str, Tensor], frame: torch.Size, size: list[int]) -> Instances:
        """The instances of an image from its detections, without those that no pixel is left of."""
        step = max(1, AT_ONCE // (size[0] * size[1]))
        masks = found["masks"].new_zeros((0, *size), dtype=torch.bool)
        if len(found["masks"]):
            parts = zip(found["masks"].split(step), found["boxes"].split(step), strict=True)
            pasted = [paste(*part, frame, size) >= self.hparams["mask_threshold"] for part in parts]
            masks = torch.cat(pasted)
        seen = masks.flatten(1).any(1)
        return Instances(masks=masks[seen], labels=found["labels"][seen], scores=found["scores"][seen])

    def _check_settings(self) -> None:
        """Raise for a setting that is out of range."""
        for name in ("width", "rois_per_image", "min_size", "max_size", "max_detections"):
            if (value := self.hparams[name]) is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if not 0 < (scale := self.hparams["anchor_scale"]) < float("inf"):
            raise InputError(f"anchor_scale must be a finite number above 0, got {scale}")
        for name in ("score_threshold", "mask_threshold"):
            if not 0 <= (value := self.hparams[name]) < 1:
                raise InputError(f"{name} must lie in [0, 1), got {value}")

    def compute_metrics(self) -> dict[str, float]:
        """The metrics of a set in percent; those of each class are in `self.scores.compute()`."""
        figures: dict[str, float] = self.scores.compute().scores()
        return figures


def target_of(instances: Instances) -> dict[str, Tensor]:
    """What the network learns of an image's instances: all that have a pixel and are no crowd."""
    kept = instances["masks"].flatten(1).any(1)
    if "iscrowd" in instances:
        kept = kept & ~instances["iscrowd"]
    masks = instances["masks"][kept]
    return {"boxes": boxes_of(masks), "labels": instances["labels"][kept], "masks": masks.to(torch.uint8)}
