"""BAS: a generator of class masks, trained to leave no activation of the class outside them.

After Wu et al., Background Activation Suppression for Weakly Supervised Object Localization (CVPR 2022), and
Zhai et al., Background Activation Suppression for Weakly Supervised Object Localization and Semantic
Segmentation (IJCV 2023).
"""

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fbr_plugin.baselines.bas.losses import bas_terms
from fbr_plugin.baselines.bas.network import build_classifier, call_frozen, halve
from fbr_plugin.baselines.bas.trained_cam import TrainedCAM
from fbr_plugin.baselines.encoders.protocol import last_stage
from fbr_plugin.baselines.tasks.encoder_task import Batch
from fbr_plugin.baselines.tasks.localization_task import LocalizationTask
from fbr_plugin.baselines.tasks.optimizer import OptimizerConfig
from fbr_plugin.contract import DenseView, StepOutput
from fbr_plugin.errors import InputError, WarnOnce, check_choice
from fbr_plugin.functional import cams_to_seeds, resize
from fbr_plugin.modules import StepRandom
from fbr_plugin.training.mixin import FBRMixin

Seeds = Literal["generator", "cam", "both"]
View = Literal["last", "third"]
COLLAPSED = 0.01  # below this mean over the last steps, M is empty


class LabelSampler(StepRandom):
    """Samples one class of each image."""

    def forward(self, label: Tensor) -> Tensor:
        """Map label: [B, C] to the index [B] of one class of each image; any class if it has none."""
        self.step += 1
        return torch.where(label > 0, self.generator().rand(label.shape), -1).argmax(1)


class BAS(LocalizationTask):
    """Background activation suppression.

    A generator makes a sigmoid map M of each class from the encoder's second-to-last level. The loss is the
    score of a class from the features outside M, relative to that of the whole image; the weights that score
    the background are frozen in that pass.

    `wsol` is the variant for localization, where an image has one class: the last stage runs at half the size
    of the level before it, the classifier is deeper, and the foreground guidance also trains the classifier.
    `examples/recipes/wsol` has its published settings for each of the encoders in this folder.

    SGD runs without momentum, as in effect in the released code for segmentation, whose poly optimizer passes
    the weight decay in place of the momentum.

    Args:
        num_classes: number of foreground classes C.
        weight_frg: weight of the foreground region guidance.
        weight_bas: weight of the background activation suppression.
        weight_area: weight of the area of M.
        wsol: use the variant for localization.
        generator_level: level of the encoder from which M is made, counted from the last, which is -1.
        classifier_width: channels between the layers of the deeper classifier, 1024 as published; None takes
            half of those of the encoder's last level.
        final_relu: whether a ReLU follows the deeper classifier, as in the code of the CVPR paper.
        seeds: maps from which seeds are made: "generator" for M, "cam" for the class activation maps, "both"
            for the mean of the two, each divided by its maximum.
        combine_with: checkpoint of a trained `CAM` whose maps take the place of the class activation maps in
            the seeds, as published; None takes the network's own, from which the class-aware gate learns in
            any case. A checkpoint of BAS does not keep it: name it wherever seeds are made.
        view: features for FBR: the encoder's "last" level, or the "third" stage, from which M is made.
        optimizer: see `OptimizerConfig`.
        kwargs: see `LocalizationTask` and `SeedTask`.
    """

    prediction_only = ("combine_with",)
    head: nn.ModuleDict

    def __init__(
        self,
        num_classes: int,
        weight_frg: float = 0.2,
        weight_bas: float = 1.0,
        weight_area: float = 1.2,
        wsol: bool = False,
        generator_level: int = -2,
        classifier_width: int | None = None,
        final_relu: bool = False,
        seeds: Seeds = "both",
        combine_with: str | None = None,
        view: View = "last",
        optimizer: OptimizerConfig = OptimizerConfig(lr=0.005, head_lr=0.05),
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, optimizer=optimizer, **kwargs)
        check_choice("seeds", seeds, Seeds)
        check_choice("view", view, View)
        if combine_with is not None and seeds == "generator":
            raise InputError(
                "seeds='generator' takes no maps of combine_with: set seeds='both', or leave it out"
            )
        if not wsol and (classifier_width is not None or final_relu):
            raise InputError("classifier_width and final_relu are of the deeper classifier: set wsol=True")
        channels, strides, place = self.encoder.channels, self.encoder.strides, generator_level
        name = self.hparams["encoder"]
        if not -len(channels) <= place <= -1:
            raise InputError(f"generator_level must be -{len(channels)} to -1 for {name!r}, got {place}")
        self.after = -1 - place  # stages from the level of M to the last
        if place < -1 and not any(True for _ in last_stage(self.encoder, self.after).parameters()):
            raise InputError(
                f"encoder {name!r} only pools after its level {place}, where BAS splits it: set "
                f"generator_level={place - 1}, or take BAS's own, fbr_plugin.baselines.bas.vgg16.VGG16"
            )
        halved = wsol and strides[-1] == strides[-2]
        if halved:
            last_stage(self.encoder)[0].register_forward_pre_hook(halve)
        self.stride = strides[place] * (2 if halved and place == -1 else 1)
        self.view_shape = replace(self.view_shape, channels=channels[-1 if view == "last" else place])
        generator = nn.Conv2d(channels[place], num_classes, 3, padding=1, bias=wsol)
        classifier = build_classifier(channels[-1], num_classes, wsol, classifier_width, final_relu)
        self.head = nn.ModuleDict({"generator": generator, "classifier": classifier})
        for module in self.head.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.combine_with = combine_with
        self.other_cam: TrainedCAM | None = None
        self.sample_label = LabelSampler()
        self._area: float | Tensor = 1.0  # running mean of M over about a hundred steps
        self._warn = WarnOnce()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Map image: [B, 3, H, W] to class maps [B, C, h, w] before ReLU, M [B, C, h3, w3] and the levels."""
        levels = self.encoder(image)
        return self.head["classifier"](levels[-1]), self._generate(levels), levels

    def setup(self, stage: str) -> None:
        """Read the CAM that the seeds are combined with."""
        super().setup(stage)
        if self.combine_with is not None and self.other_cam is None:
            self.other_cam = TrainedCAM(self.combine_with, self.num_classes)

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """The four losses for one sampled class per image, and the class maps before ReLU as a view."""
        label = batch["label"]
        class_maps, maps, levels = self(batch["image"])
        target = self.sample_label(label)
        mask = maps[torch.arange(len(target), device=target.device), target][:, None]
        background = nn.Sequential(last_stage(self.encoder, self.after), self.head["classifier"])
        suppressed = call_frozen(background, self._level_of_maps(levels).detach() * (1 - mask))
        terms = bas_terms(
            class_maps.float(), mask.float(), suppressed.float(), label, target, self.hparams["wsol"]
        )
        named = terms._asdict()
        loss = terms.cls + sum(
            self.hparams[f"weight_{name}"] * named[name] for name in ("frg", "bas", "area")
        )
        self._area = 0.99 * self._area + 0.01 * terms.area.detach()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(label))
        self.log_dict({f"train/{name}": value for name, value in named.items()}, batch_size=len(label))
        outputs: StepOutput = {"loss": loss}
        if self.wants_views:
            features = levels[-1] if self.hparams["view"] == "last" else self._level_of_maps(levels)
            scores = resize(class_maps, features.shape[-2:])
            seeds = [resize(part, scores.shape[-2:]) for part in self._seed_parts(class_maps.relu(), maps)]
            outputs["views"] = [
                DenseView(
                    features,
                    scores,
                    label,
                    seed_scores=torch.cat(seeds, 1),
                    to_seeds=self.view_seeds(batch),
                    levels=self.shallow(levels),
                )
            ]
        return outputs

    def on_train_epoch_end(self) -> None:
        """Warn once when M has become empty."""
        super().on_train_epoch_end()
        if self.global_rank == 0 and float(self._area) < COLLAPSED:
            self._warn(
                f"BAS's generator has collapsed: its maps have a mean of {float(self._area):.1g}. Where "
                "suppression raises a class's score only the area has a gradient, and it drives the maps to "
                "0: lower weight_area, or start from a trained classifier with weights=FILE"
            )

    def seed_scores(self, image: Tensor, label: Tensor) -> Tensor:
        """Map image: [B, 3, H, W] to the maps of the seeds: [B, C, h3, w3], or [B, 2C, h3, w3] for "both"."""
        class_maps, maps, levels = self(image)
        cam = class_maps.relu() if self.other_cam is None else self.other_cam(image, label)
        return self.gated(torch.cat(self._seed_parts(cam, maps), 1), levels).float()

    def scored_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map image: [B, 3, H, W] to M [B, C, h3, w3] and class logits [B, C]."""
        class_maps, maps, levels = self(image)
        return self.gated(maps, levels).float(), class_maps.mean((2, 3)).float()

    def to_seeds(self, scores: Tensor, batch: Batch) -> Tensor:
        """Mask scores: [B, C or 2C, H, W] by the labels, divide each map by its maximum, and average."""
        return cams_to_seeds(scores, batch["label"])

    def _level_of_maps(self, levels: list[Tensor]) -> Tensor:
        """The level [B, L, h3, w3] from which M is made."""
        level: Tensor = levels[self.hparams["generator_level"]]
        return level

    def _generate(self, levels: list[Tensor]) -> Tensor:
        """M: [B, C, h3, w3]."""
        return torch.sigmoid(self.head["generator"](self._level_of_maps(levels)))

    def _seed_parts(self, cam: Tensor, maps: Tensor) -> list[Tensor]:
        """The maps [B, C, h3, w3] that a seed averages, of a CAM [B, C, h, w], at least 0, and of M."""
        cam = resize(cam, maps.shape[-2:])
        return {"generator": [maps], "cam": [cam], "both": [maps, cam]}[self.hparams["seeds"]]


class BASFBR(FBRMixin, BAS):
    """BAS trained with FBR."""
