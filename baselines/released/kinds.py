"""The released checkpoints that can be imported, and the networks of ours that they become."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fbr_plugin.baselines.released import keys
from fbr_plugin.baselines.released.keys import Keys

BAS = "fbr_plugin.baselines.bas"
# Tensors that no released checkpoint has: counters, seeds and memory banks.
OWN = r".*num_batches_tracked|.*_extra_state|fbr\.(banks|skipped)\..+|.*mean_shift\.batches"
CLASSIFIER = "head.classifier.weight"


@dataclass(frozen=True)
class Kind:
    """A released checkpoint, and the network of ours that it becomes.

    Attributes:
        source: the released network, and the repository and commit of its code.
        network: the name of our baseline; None for an encoder alone.
        keys: the released names and ours.
        settings: of our network, as far as the weights imply them, and those of the released seeds.
        classes: our tensor whose rows are the classes, and how many rows more than classes it has; None where
            no tensor depends on the classes.
        lacking: regular expression of further tensors of ours that the checkpoint lacks; they keep their
            initial values.
        rows: what is done to the rows of the tensor in `classes`.
        resnet38: whether the encoder is ResNet-38, whose layers are renamed before `keys` is used.
    """

    source: str
    network: str | None
    keys: Keys
    settings: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, int] | None = None
    lacking: str = "(?!)"
    rows: Callable[[Tensor], Tensor] | None = None
    resnet38: bool = False


def without_first(rows: Tensor) -> Tensor:
    """SEAM's rows without that of the background, which is the first and not trained."""
    return rows[1:]


def last_to_first(rows: Tensor) -> Tensor:
    """EPS's rows with the background, which is the last there, as the first."""
    return rows.roll(1, 0)


def on_seam(source: str, names: Keys, lacking: str = "(?!)") -> Kind:
    """A network of the PPC family without saliency maps."""
    settings = {"encoder": "resnet38d", "released_maps": True, "saliency": False, "seed_maps": "refined"}
    return Kind(source, "PPC", names, settings, (CLASSIFIER, 0), lacking, without_first, resnet38=True)


def on_eps(source: str, names: Keys, lacking: str = "(?!)", network: str = "PPC", **settings: Any) -> Kind:
    """A network of the PPC family trained with saliency maps."""
    common = {"encoder": "resnet38d", "released_maps": True, "saliency": True, "seed_maps": "softmax"}
    settings = {**common, **IMAGE, "pooling": "gap", "dropout": 0.0, **settings}
    return Kind(source, network, names, settings, (CLASSIFIER, 1), lacking, last_to_first, resnet38=True)


def bas(where: str, encoder: str, names: Keys, **settings: Any) -> Kind:
    """BAS with one of its encoders."""
    source = f"BAS for {where} with {encoder.partition('.')[2]}: wpy1999/BAS-Extension at bd1bfa8"
    settings = {"encoder": f"{BAS}.{encoder}", **settings}
    return Kind(source, "BAS", names, settings, ("head.generator.weight", 0))


def fbr(bank_size: int, shared_bank: bool, **settings: Any) -> dict[str, Any]:
    """FBR's settings on which the shapes of its tensors depend, and others; no release has a gate."""
    shapes = {"enabled": True, "dim": 128, "bank_size": bank_size, "shared_bank": shared_bank}
    return {"fbr": {**shapes, **settings}, "gate": {"enabled": False}}


WSOL = {"wsol": True, "classifier_width": 1024}
RESNET50 = {"encoder": "resnet50_irn"}
RATES = {"rates": [6, 12, 18, 24]}
CELLS, IMAGE = {"grid_extent": "cells"}, {"grid_extent": "image"}  # of the released seeds
AMN = {**RESNET50, **RATES, **IMAGE}

KINDS: dict[str, Kind] = {
    "cam": Kind("CAM: jiwoon-ahn/irn at a2ece00", "CAM", keys.CAM, {**RESNET50, **CELLS}, ("head.weight", 0)),
    "amn": Kind("AMN: gaviotas/AMN at 75c1999", "AMN", keys.AMN, AMN, ("head.branches.0.bias", 1)),
    "irn": Kind("IRN: jiwoon-ahn/irn at a2ece00", "IRN", keys.IRN, {**RESNET50, "released": True}),
    "fbr_amn": Kind(
        "FBR on AMN: XuYin94/FBR at fd1aeb8",
        "AMNFBR",
        keys.FBR_AMN,
        {**AMN, **fbr(100_000, True)},
        ("head.branches.0.bias", 1),
        lacking=r"fbr\.classifier\..+",
    ),
    "fbr_ppc": on_eps(
        "FBR on PPC and EPS: XuYin94/FBR at fd1aeb8",
        keys.FBR_PPC,
        r"fbr\.classifier\.bias",
        "PPCFBR",
        pooling="tap",
        shared_projection=True,
        **fbr(50_000, False, released_heads=True),
    ),
    "seam": on_seam("SEAM: YudeWang/SEAM at 3212261", keys.SEAM, r"head\.projection\..+"),
    "ppc_seam": on_seam("PPC on SEAM: usr922/wseg at e96b961", keys.PPC_SEAM),
    "eps": on_eps("EPS: usr922/wseg at c62f0d2", keys.EPS, r"head\.(projection|correlation)\..+"),
    "ppc_eps": on_eps("PPC on EPS: usr922/wseg at c62f0d2", keys.PPC_EPS),
    "affinitynet": Kind(
        "AffinityNet: YudeWang/SEAM at 3212261",
        "AffinityNet",
        keys.AFFINITY,
        {"encoder": "resnet38d", "border_pairs": False},
        resnet38=True,
    ),
    "bas_voc": bas("segmentation", "resnet50.ResNet50", keys.BAS_VOC, output_stride=16, wsol=False, **CELLS),
    "bas_resnet50": bas("localization", "resnet50.ResNet50", keys.BAS_RESNET50, output_stride=8, **WSOL),
    "bas_vgg16": bas("localization", "vgg16.VGG16", keys.BAS_VGG16, **WSOL),
    "bas_inception_v3": bas("localization", "inception_v3.InceptionV3", keys.BAS_INCEPTION, **WSOL),
    "bas_mobilenet_v1": bas("localization", "mobilenet_v1.MobileNetV1", keys.BAS_MOBILENET, **WSOL),
    "deeplab_v2": Kind(
        "DeepLab-v2: kazuto1011/deeplab-pytorch at 4219467",
        "DeepLabV2",
        keys.DEEPLAB,
        {"encoder": "resnet101_deeplab", "released": True, **RATES},
        ("head.0.bias", 1),
    ),
    "deeplab_ppc": Kind(
        "PPC's DeepLab: usr922/wseg at e96b961",
        "DeepLabV2",
        keys.DEEPLAB_PPC,
        {"encoder": "resnet101s", "head": "concat", "released": True, **RATES},
        ("head.classifier.bias", 1),
    ),
    "deeplab_v2_init": Kind(
        "the start of DeepLab-v2: kazuto1011/deeplab-pytorch at 4219467",
        None,
        keys.DEEPLAB_INIT,
        {"encoder": "resnet101_deeplab"},
    ),
    **{
        name: Kind(f"{name} of torchvision or timm", None, keys.RESNET, {"encoder": name})
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
}
