"""`fbr-plugin demo`: what FBR does to a baseline's seeds, from image labels to a scored table, in minutes."""

import json
import logging
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from torch import Tensor

from baselines import AMN, AMNFBR, BAS, BASFBR, CAM, PPC, PPCFBR
from fbr_plugin import FBRConfig, figures
from fbr_plugin.data import FolderDataModule, SyntheticDataModule
from fbr_plugin.data.loading import WSSSDataModule
from fbr_plugin.data.transforms import denormalise
from fbr_plugin.report import format_table, write_results, write_whole
from fbr_plugin.training.seed_writer import SeedWriter

# The baseline bare and with FBR, and settings for small images and an encoder that the CAM has trained.
BASELINES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "amn": (AMN, AMNFBR, {"rates": (1, 2, 4), "lr": 5e-4, "head_lr": 1e-3}),
    "ppc": (PPC, PPCFBR, {"lr": 5e-4, "head_lr": 1e-3, "dropout": 0.0}),
    "bas": (BAS, BASFBR, {"lr": 5e-4, "head_lr": 1e-3}),
}
TERMS = ("train/loss", "fbr/fg", "fbr/bg", "fbr/seg", "fbr/sim", "fbr/total")
THRESHOLDS = (0.35, 0.10)
EXAMPLES = 6


class Recorder(pl.Callback):
    """Keeps the loss terms and the time of every training step, and images of the last batch."""

    def __init__(self) -> None:
        self.curves: dict[str, tuple[list[int], list[float]]] = {}
        self.times: list[float] = []
        self.images: Tensor = torch.empty(0)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, _: int) -> None:
        """Note the step's time and what it logged."""
        self.times.append(time.perf_counter() - self.start)
        self.images = batch["image"][:EXAMPLES]
        for name in (term for term in TERMS if term in trainer.callback_metrics):
            steps, values = self.curves.setdefault(name, ([], []))
            steps.append(trainer.global_step)
            values.append(trainer.callback_metrics[name].item())


def demo(
    output: Path = Path("runs/demo"),
    seeds: str = "1",
    data: Path | None = None,
    preset: Literal["default", "hard", "control"] = "default",
    baseline: Literal["amn", "ppc", "bas"] = "amn",
    fbr: Literal["recommended", "amn", "ppc"] = "recommended",
    encoder: str = "small",
    size: int | None = None,
    cam_steps: int = 500,
    steps: int = 150,
) -> None:
    """Train a CAM classifier, make labels of its seeds, and train a baseline without and with FBR.

    Both arms begin with the CAM's encoder; AMN trains on the labels. They have the same data, initialisation
    and batches. Scores are those of the training images' seeds.
    A seed whose results are in the output folder, from the same settings, is not computed again.

    Args:
        output: folder of the results: metrics.json, metrics.csv and figures.
        seeds: random seeds, separated by commas; several give means, deviations and paired differences.
        data: one's own folder (JPEGImages, SegmentationClass, ImageSets, classes.txt) in place of the scenes.
        preset: how often classes of the scenes co-occur with their textures.
        baseline: what FBR is added to.
        fbr: its settings: ours with the class-aware gate, or those published for AMN or PPC.
        encoder: "small", or the name of a timm model, trained from scratch.
        size: pixels of a side of the scenes (64 unless given), or of the longer side of own images (128).
        cam_steps: training steps of the CAM classifier.
        steps: training steps of the baseline.
    """
    settings = {
        "data": data and str(data),
        "preset": preset,
        "baseline": baseline,
        "fbr": fbr,
        "encoder": encoder,
        "size": size or (128 if data else 64),
        "cam_steps": cam_steps,
        "steps": steps,
    }
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    numbers = _parse_seeds(seeds)
    _check(settings)
    results = [_cached_run(seed, settings, Path(output), draw=seed == numbers[0]) for seed in numbers]
    write_results(results, settings, Path(output))
    print(f"\n{format_table(results)}\n\nfigures and metrics: {output}")


def _parse_seeds(seeds: str) -> list[int]:
    try:
        return [int(seed) for seed in str(seeds).split(",")]
    except ValueError:
        raise ValueError(f"--seeds takes whole numbers separated by commas, got {seeds!r}") from None


def _check(settings: dict[str, Any]) -> None:
    """Raise before any training if there is nothing to train or to score with."""
    for name in ("cam_steps", "steps"):
        if settings[name] < 1:
            raise ValueError(f"--{name} must be at least 1, got {settings[name]}")
    if "mask" not in data_module(0, settings).dataset("test")[0]:
        raise ValueError(
            f"the demo scores seeds, and {settings['data']} has no masks in SegmentationClass: add some, or "
            "see `fbr-plugin pipeline`, which needs none"
        )


def _cached_run(seed: int, settings: dict[str, Any], output: Path, draw: bool) -> dict[str, Any]:
    """The results of one seed, from its file where that has the same settings."""
    folder = output / f"seed_{seed}"
    path = folder / "metrics.json"
    if path.exists():
        known = json.loads(path.read_text())
        if known["settings"] == settings:
            print(f"seed {seed}: read from {path} (delete it to compute it again)")
            return known
    result = {"seed": seed, "settings": settings, **_run(seed, settings, folder, output if draw else folder)}
    write_whole(path, json.dumps(result, indent=2))
    return result


def _run(seed: int, settings: dict[str, Any], folder: Path, figure_folder: Path) -> dict[str, Any]:
    """Train and score the CAM and both arms, and draw."""
    common = {"encoder": settings["encoder"], "scales": (1.0,), "optimizer": "AdamW", "warmup_steps": 20}
    module = data_module(seed, settings)
    pl.seed_everything(seed, verbose=False)
    cam = CAM(module.num_classes, lr=3e-3, head_lr=3e-3, weight_decay=1e-3, **common)
    print(f"seed {seed}: CAM")
    scores, recorders, seconds = {}, {}, {}
    trainer, seconds["CAM"], recorders["CAM"] = _fit(cam, module, settings["cam_steps"], folder)
    checkpoint = folder / "cam.ckpt"
    trainer.save_checkpoint(checkpoint)
    scores["CAM"] = _score(trainer, cam, module)
    writer = SeedWriter(folder / "labels", thresholds=THRESHOLDS)
    trainer.callbacks.append(writer)  # type: ignore[attr-defined]
    trainer.predict(cam, module, return_predictions=False)

    module = data_module(seed, settings, folder / "labels")
    models: dict[str, Any] = {"CAM": cam}
    bare, plugged, own = BASELINES[settings["baseline"]]
    for arm, name, fbr in (
        (bare, settings["baseline"].upper(), {}),
        (plugged, f"{settings['baseline'].upper()} + FBR", {"fbr": getattr(FBRConfig, settings["fbr"])()}),
    ):
        pl.seed_everything(seed, verbose=False)
        options = {"weights": str(checkpoint), "poly_power": 0.9, **common, **own, **fbr}
        models[name] = arm(module.num_classes, **options)
        print(f"seed {seed}: {name}")
        trainer, seconds[name], recorders[name] = _fit(models[name], module, settings["steps"], folder)
        scores[name] = _score(trainer, models[name], module)
    # The fastest tenth of the steps: what else runs on the machine slows the others.
    step = {name: sorted(recorder.times)[len(recorder.times) // 10] for name, recorder in recorders.items()}
    for name, score in scores.items():
        score |= {"seconds": seconds[name], "seconds_per_step": step[name], "fbr_share": None}
    _, without, with_fbr = step.values()
    scores[name]["fbr_share"] = 100 * (1 - without / with_fbr)
    _draw(models, recorders, scores, module, figure_folder)
    return {"class_names": module.class_names, "scores": scores}


def data_module(seed: int, settings: dict[str, Any], labels: Path | None = None) -> WSSSDataModule:
    """The scenes, or one's own photos, whose seeds are scored on the training set itself."""
    size, folder = settings["size"], settings["data"]
    if folder is None:
        return SyntheticDataModule(settings["preset"], size=size, pseudo_label_dir=labels, seed=seed)
    module = FolderDataModule(
        folder,
        val_list="train",
        crop_size=size,
        long_side=(size, size * 5 // 4),
        max_size=size,
        pseudo_label_dir=labels,
        seed=seed,
    )
    module.batch_size = min(module.batch_size, len(module.ids("fit")))
    return module


def _fit(model: Any, module: WSSSDataModule, steps: int, folder: Path) -> tuple[pl.Trainer, float, Recorder]:
    """Train a model; the trainer, the seconds that it took and what was recorded."""
    recorder = Recorder()
    trainer = pl.Trainer(
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[recorder, TQDMProgressBar(refresh_rate=10)],
        default_root_dir=folder,
        devices=1,
    )
    start = time.perf_counter()
    trainer.fit(model, module)
    return trainer, time.perf_counter() - start, recorder


def _score(trainer: pl.Trainer, model: Any, module: WSSSDataModule) -> dict[str, Any]:
    """The figures of the training images' seeds, with the whole threshold sweep."""
    (logged,) = trainer.test(model, module, verbose=False)
    sweep = model.scores.sweep.compute()
    figures_of_arm = {name.removeprefix("test/"): value for name, value in logged.items()}
    return {**figures_of_arm, "thresholds": sweep.thresholds, "miou_sweep": sweep.miou}


def _draw(
    models: dict[str, Any],
    recorders: dict[str, Recorder],
    scores: dict[str, dict[str, Any]],
    module: WSSSDataModule,
    folder: Path,
) -> None:
    """Write the figures of one seed."""
    dataset, names = module.dataset("test"), module.class_names
    items = [dataset[index] for index in range(min(EXAMPLES, len(dataset)))]
    maps = {
        name: [_label_map(model.eval(), item, scores[name]["threshold_oracle"]) for item in items]
        for name, model in models.items()
    }
    photos = [_photo(item["image"]) for item in items]
    examples = figures.examples(photos, [item["mask"] for item in items], maps, names)
    figures.save(examples, folder / "examples.png")
    _, bare, plugged = models
    terms, images = models[plugged].fbr_terms, [_photo(image) for image in recorders[plugged].images]
    figures.save(figures.nroi_clusters(images, list(terms.assignments[:EXAMPLES])), folder / "nroi.png")
    if terms.graph.any():  # with the gate alone no negatives are drawn
        figures.save(figures.semantic_graph(terms.graph, names), folder / "semantic_graph.png")
    if models[plugged].fbr.gate is not None:
        classes = [int(item["label"].argmax()) for item in items]
        with torch.no_grad():
            levels = [models[plugged].encoder(item["image"][None]) for item in items]
            gates = [models[plugged].class_gate(models[plugged].local(own))[0] for own in levels]
        columns = {bare: [_seed(models[bare], item) for item in items], "gate": gates}
        columns[plugged] = [_seed(models[plugged], item) for item in items]
        own = {
            title: [m[c] for m, c in zip(column, classes, strict=True)] for title, column in columns.items()
        }
        figures.save(figures.class_maps(photos, own), folder / "gate.png")
    curves = {
        name: {term: curve for term, curve in recorders[name].curves.items() if any(curve[1])}
        for name in (bare, plugged)
    }
    figures.save(figures.loss_curves(curves), folder / "losses.png")
    kinds = ("oracle", "honest")
    marks = {name: {kind: score[f"threshold_{kind}"] for kind in kinds} for name, score in scores.items()}
    sweeps = {name: score["miou_sweep"] for name, score in scores.items()}
    thresholds = scores["CAM"]["thresholds"]
    figures.save(figures.threshold_sweep(thresholds, sweeps, marks), folder / "threshold_sweep.png")


def _photo(image: Tensor) -> Tensor:
    """A normalised image [3, H, W] as [3, H, W] in [0, 1]."""
    return torch.from_numpy(denormalise(image)).permute(2, 0, 1) / 255


@torch.no_grad()
def _seed(model: Any, item: dict[str, Any]) -> Tensor:
    """The foreground of the seed of one item: [C, H, W]."""
    batch = {key: value[None] for key, value in item.items() if isinstance(value, Tensor)}
    return model.predict_step({**batch, "id": [item["id"]]}, 0)["seed"][0][-model.num_classes :]


def _label_map(model: Any, item: dict[str, Any], threshold: float) -> Tensor:
    """The seed of one item, cut at a threshold: [H, W]."""
    score, best = _seed(model, item).max(0)
    return torch.where(score > threshold, best + 1, 0)
