"""The trainings and the pipeline that are killed: the smallest that use each part."""

from pathlib import Path
from typing import Any

import yaml

from fbr_plugin.data import SyntheticScenes, write_mask

IMAGES, SIZE = 12, 32
ADAMW = {"name": "AdamW", "lr": 3e-3, "head_lr": 3e-3}
LOSSES = {"dim": 16, "num_clusters": 4, "bank_size": 256, "min_bank": 16, "num_negatives": 16}
GATE = {"enabled": True, "num_prototypes": 4, "num_clusters": 8, "recluster_every": 5}
SEEDS = {"scales": [1.0], "optimizer": ADAMW}
EVERY = "pytorch_lightning.callbacks.ModelCheckpoint"

# name: class of the model, its arguments, and further settings of the run.
Plan = tuple[str, dict[str, Any], dict[str, Any]]
VALIDATED = {"trainer": {"limit_val_batches": 1.0, "val_check_interval": 2}}
EPOCHS = {"trainer": {"limit_val_batches": 1.0, "max_steps": -1, "max_epochs": 12}, "saved": "epochs"}
WORKERS = {"loading": {"num_workers": 2}}
ACCUMULATED = {"trainer": {"accumulate_grad_batches": 2}}
BF16 = {"trainer": {"precision": "bf16-mixed"}}
TWO = {"trainer": {"devices": 2, "strategy": "ddp"}, "loading": {"batch_size": 2}}
ELSEWHERE: dict[str, Any] = {"temporary": True}
PLANS: dict[str, Plan] = {
    "CAM": ("CAM", SEEDS, EPOCHS),
    "CAM, gate": ("CAMFBR", {**SEEDS, "gate": GATE}, VALIDATED),
    "CAM, losses": ("CAMFBR", {**SEEDS, "fbr": {"preset": "amn", **LOSSES}}, WORKERS),
    "AMN": ("AMN", {**SEEDS, "rates": [1, 2]}, ACCUMULATED),
    "AMN, losses and gate": (
        "AMNFBR",
        {**SEEDS, "rates": [1, 2], "fbr": {"preset": "amn", **LOSSES}, "gate": GATE},
        BF16,
    ),
    "CAM, gate, two processes": ("CAMFBR", {**SEEDS, "fbr": {"preset": "amn", **LOSSES}, "gate": GATE}, TWO),
    "PPC": ("PPC", SEEDS, ELSEWHERE),
    "PPC, losses": ("PPCFBR", {**SEEDS, "fbr": {"preset": "ppc", **LOSSES}}, EPOCHS),
    "BAS": ("BAS", SEEDS, WORKERS),
    "BAS, gate": ("BASFBR", {**SEEDS, "gate": GATE}, ACCUMULATED),
    "IRN": ("IRN", {"optimizer": ADAMW}, ELSEWHERE),
    "AffinityNet": ("AffinityNet", {"optimizer": ADAMW}, BF16),
    "DeepLab-v2": ("DeepLabV2", {**SEEDS, "rates": [1, 2]}, VALIDATED),
    "Mask R-CNN": (
        "MaskRCNN",
        {"width": 16, "anchor_scale": 4, "rois_per_image": 8, "optimizer": ADAMW},
        {"instances": "all"},
    ),
}


def prepare(folder: Path) -> Path:
    """Write pseudo labels of the scenes: their true masks."""
    scenes = SyntheticScenes(num_images=IMAGES, size=SIZE)
    for item in (scenes[index] for index in range(IMAGES)):
        write_mask(folder / f"{item['id']}.png", item["mask"])
    return folder


def fit_settings(plan: Plan, labels: Path) -> dict[str, Any]:
    """The settings of `fit`."""
    name, arguments, further = plan
    trainer = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": 36,
        "limit_val_batches": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        **further.get("trainer", {}),
    }
    if further.get("saved") != "epochs":
        trainer["callbacks"] = [{"class_path": EVERY, "init_args": {"every_n_train_steps": 4}}]
    data = {
        "num_images": IMAGES,
        "size": SIZE,
        "pseudo_label_dir": str(labels),
        "instances": further.get("instances", "none"),
        "loading": {"batch_size": 4, "eval_batch_size": 6, **further.get("loading", {})},
    }
    return {
        "trainer": trainer,
        "model": {
            "class_path": f"fbr_plugin.baselines.{name}",
            "init_args": {"encoder": "small", **arguments},
        },
        "data": {"class_path": "fbr_plugin.data.SyntheticDataModule", "init_args": data},
        "figures": {"every_n_steps": 0},
    }


def pipeline_settings() -> dict[str, Any]:
    """The settings of `pipeline`, with all stages but those of instances."""

    def network(name: str, **arguments: Any) -> dict[str, Any]:
        path = f"fbr_plugin.baselines.{name}"
        return {
            "model": {"class_path": path, "init_args": {"encoder": "small", "optimizer": ADAMW, **arguments}},
            "trainer": {"max_steps": 8},
        }

    trainer = {
        "accelerator": "cpu",
        "devices": 1,
        "limit_val_batches": 0,
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
    }
    loading = {"batch_size": 4, "eval_batch_size": 1}
    return {
        "data": {
            "class_path": "fbr_plugin.data.SyntheticDataModule",
            "init_args": {"num_images": IMAGES, "size": SIZE, "loading": loading},
        },
        "trainer": trainer,
        "classifier": network("CAMFBR", scales=[1.0], gate=GATE),
        "labels": {"fg": 0.35, "bg": 0.1},
        "baseline": network("AMNFBR", rates=[1, 2], scales=[1.0], fbr={"preset": "amn", **LOSSES}, gate=GATE),
        "seeds": "compact",
        "irn": network("IRN"),
        "masks": {"refine": "pamr"},
        "segmentation": network("DeepLabV2", rates=[1, 2], scales=[1.0]),
    }


def write(settings: dict[str, Any], path: Path) -> Path:
    """Write settings as a YAML file."""
    path.write_text(yaml.safe_dump(settings))
    return path
