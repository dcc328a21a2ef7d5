"""Why BAS learns from activation rather than cross-entropy: both against the size of the foreground mask.

A classifier is trained on scenes of known masks. Then the true mask of an object is eroded and dilated, the
features before the last stage are cut out along it, and the rest of the network scores what is left, after
the experiment of Wu et al., Background Activation Suppression for Weakly Supervised Object Localization (CVPR
2022). As there, the cross-entropy is nearly gone when the mask still covers a part of the object, and the
activation rises further, to where the mask reaches the last features that see the object, a few pixels beyond
its boundary. It takes a minute or two on one core and downloads nothing:

python examples/bas_activation_vs_entropy.py

With your own photos (JPEGImages, SegmentationClass, ImageSets, classes.txt), and with a CAM that is trained
already instead of a new one:

python examples/bas_activation_vs_entropy.py --data PHOTOS --ckpt CAM.ckpt --size 320
"""

import argparse
from itertools import islice

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning import Trainer, seed_everything
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate, max_pool2d

from fbr_plugin.baselines import CAM, OptimizerConfig
from fbr_plugin.baselines.encoders.protocol import last_stage
from fbr_plugin.data import (
    Augmentation,
    FolderDataModule,
    Lists,
    Loading,
    SyntheticDataModule,
    WSSSDataModule,
)
from fbr_plugin.errors import InputError
from fbr_plugin.figures import save

SIZES = np.concatenate(
    [np.arange(0, 1, 0.05), np.arange(1, 4.01, 0.1)]
)  # of the mask, as shares of the object
NAMES = ("cross-entropy", "activation", "background activation")
SCORED = 200  # images at most
VOID = 0.1  # largest share of 255 in the mask of a photo, where it borders the objects


def images(options: argparse.Namespace) -> WSSSDataModule:
    """The scenes, or your own photos, whose training images are scored."""
    if options.data is None:
        return SyntheticDataModule(options.preset, options.images, options.size)
    augmentation = Augmentation(options.size, long_side=(options.size, options.size * 5 // 4))
    data = FolderDataModule(
        options.data, Lists(val="train"), augmentation=augmentation, max_size=options.size
    )
    data.loading = Loading(min(data.loading.batch_size, len(data.ids("fit"))))
    return data


def classifier(data: WSSSDataModule, options: argparse.Namespace) -> CAM:
    """The CAM of a checkpoint, or one that is trained now."""
    if options.ckpt is None:
        optimizer = OptimizerConfig("AdamW", lr=3e-3, head_lr=3e-3, warmup_steps=20)
        model = CAM(data.num_classes, encoder="small", optimizer=optimizer)
        Trainer(
            max_epochs=options.epochs,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        ).fit(model, data)
        return model
    saved = torch.load(options.ckpt, map_location="cpu", weights_only=True)
    known = saved["hyper_parameters"]
    model = CAM(data.num_classes, encoder=known["encoder"], output_stride=known["output_stride"])
    weights = {name: each for name, each in saved["state_dict"].items() if name in model.state_dict()}
    try:
        model.load_state_dict(weights)
    except InputError:
        raise SystemExit(f"{options.ckpt} is no checkpoint of a CAM of {data.num_classes} classes") from None
    return model


def resized(mask: Tensor, pixels: int) -> Tensor:
    """Dilate masks: [B, 1, H, W] by a number of pixels, or erode them by a negative one."""
    sign = 1 if pixels > 0 else -1
    for _ in range(abs(pixels)):
        mask = sign * max_pool2d(sign * mask, 3, stride=1, padding=1)
    return mask


def curves(model: CAM, image: Tensor, target: Tensor, mask: Tensor, reach: int) -> NDArray[np.float64]:
    """Score what masks of every size leave of images.

    Args:
        model: trained classifier.
        image: [B, 3, H, W].
        target: [B] the class of each.
        mask: [B, 1, H, W] its true mask.
        reach: pixels by which masks are eroded and dilated at most.

    Returns:
        [B, 3, S] cross-entropy, activation and background activation at the sizes `SIZES` of the mask.
    """
    features = model.encoder(image)[-2]
    stage = last_stage(model.encoder)

    def scores(weights: Tensor) -> Tensor:
        return model.head(stage(features * weights)).mean((2, 3))

    areas, values = [], []
    for pixels in range(-reach, reach + 1):
        grown = resized(mask, pixels)
        weights = adaptive_avg_pool2d(grown, list(features.shape[-2:]))
        inside, outside = scores(weights), scores(1 - weights)
        active = [each.gather(1, target[:, None])[:, 0].relu() for each in (inside, outside)]
        areas.append(grown.sum((1, 2, 3)) / mask.sum((1, 2, 3)))
        values.append(torch.stack([cross_entropy(inside, target, reduction="none"), *active]))
    area, value = torch.stack(areas).numpy(), torch.stack(values).numpy()  # [N, B], [N, 3, B]
    series = [np.interp(SIZES, area[:, i], value[:, k, i]) for i in range(len(image)) for k in range(3)]
    return np.array(series).reshape(-1, 3, len(SIZES))


def saturation(curve: NDArray[np.float64]) -> float:
    """The first of `SIZES` at which a curve [S] has made 90% of its way from its start to its extreme."""
    way = np.abs(curve - curve[0])
    return float(SIZES[(way >= 0.9 * way.max()).argmax()])


def plot(mean: NDArray[np.float64], places: list[float]) -> Figure:
    """Draw the mean curves [3, S], each as a share of its maximum, and where two of them saturate."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    colours = ("#c44e52", "#4c72b0", "#999999")
    for name, curve, colour in zip(NAMES, mean, colours, strict=True):
        axes.plot(SIZES, curve, color=colour, label=name)
    for name, place, colour in zip(NAMES, places, colours, strict=False):
        axes.axvline(place, color=colour, linestyle=":", label=f"{name}: 90% of its way (median)")
    axes.axvline(1, color="#333333", linewidth=0.8)
    axes.set(
        xlabel="size of the mask / size of the object", ylabel="share of the maximum", xlim=(0, SIZES[-1])
    )
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Train or load a classifier, measure, print where the curves saturate, and save the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of your own photos in place of the scenes")
    parser.add_argument("--ckpt", help="checkpoint of a trained CAM; without one, a small CAM is trained")
    parser.add_argument("--preset", default="default", help="how strongly classes and their stuff co-occur")
    parser.add_argument("--images", type=int, default=800, help="number of training scenes")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--size", type=int, default=64, help="pixels of a scene's side, or of a photo's longer"
    )
    parser.add_argument("--output", default="bas_activation_vs_entropy.png", help="file of the figure")
    options = parser.parse_args()

    seed_everything(0)
    data = images(options)
    model = classifier(data, options)
    model.eval()
    found, margins = [], []
    with torch.no_grad():
        for batch in islice(data.val_dataloader(), SCORED // data.loading.eval_batch_size):
            image, target = batch["image"], batch["label"].argmax(1)
            truth = interpolate(batch["mask"][:, None].float(), image.shape[-2:], mode="nearest-exact")
            void = (truth == 255).float().mean((1, 2, 3)) <= (VOID if options.data else 0)
            mask = ((truth > 0) & (truth < 255)).float()
            kept = (batch["label"].sum(1) == 1) & void & (model(image)[0].argmax(1) == target)
            kept &= mask.any(3).any(2).any(1)
            if kept.any():
                image, target, mask = image[kept], target[kept], mask[kept]
                found.append(curves(model, image, target, mask, reach=options.size // 3))
                margins.append(resized(mask, model.stride).sum((1, 2, 3)) / mask.sum((1, 2, 3)))
    if not found:
        raise SystemExit("the classifier got no image of one class right: train for longer with --epochs")
    every = np.concatenate(found)
    every = every[every[:, 1].max(1) > 0]
    if not len(every):
        raise SystemExit("no image has an activation: train for longer with --epochs")
    entropy, activation = (float(np.median([saturation(c) for c in every[:, k]])) for k in (0, 1))
    shares = (every / every.max(2, keepdims=True).clip(min=1e-8)).mean(0)
    print(f"{len(every)} images of one class, rightly classified; sizes relative to the object, medians")
    print(f"cross-entropy saturates at {entropy:.2f}, activation at {activation:.2f}")
    print(
        f"the object and one feature ({model.stride} pixels) all around it: {torch.cat(margins).median():.2f}"
    )
    for name, share in zip(NAMES, shares[:, np.isclose(SIZES, 1)].ravel(), strict=True):
        print(f"within the true mask, {name} is {100 * share:.0f}% of its maximum")
    save(plot(shares, [entropy, activation]), options.output)
    print(f"figure: {options.output}")


if __name__ == "__main__":
    main()
