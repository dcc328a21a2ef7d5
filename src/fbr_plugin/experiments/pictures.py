"""Figures of a baseline's arms."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbr_plugin import figures
from fbr_plugin.baselines.tasks.seed_task import SeedTask
from fbr_plugin.data.datamodules.base import WSSSDataModule
from fbr_plugin.data.transforms import to_photo
from fbr_plugin.experiments.recorder import EXAMPLES, Recorder


def draw_arms(
    models: dict[str, Any],
    recorders: dict[str, Recorder],
    scores: dict[str, dict[str, Any]],
    module: WSSSDataModule,
    folder: Path,
) -> None:
    """Write the figures of one seed: the CAM comes first, then the baseline, then its arms with FBR."""
    dataset, names = module.dataset("test"), module.class_names
    number = min(EXAMPLES, len(dataset))  # spread over the list, which may be ordered by class
    items = [dataset[index * len(dataset) // number] for index in range(number)]
    maps = {
        name: [label_map(model.eval(), item, scores[name]["threshold_oracle"]) for item in items]
        for name, model in models.items()
    }
    photos = [to_photo(item["image"]) for item in items]
    rule = "Images evenly spaced over the list; seeds at their oracle threshold."
    examples = figures.examples(photos, [item["mask"] for item in items], maps, names, note=rule)
    figures.save(examples, folder / "examples.png")
    _, baseline, with_losses, *_ = models
    *_, last = models
    if (terms := models[with_losses].fbr_terms) is not None:
        images = [to_photo(each) for each in recorders[with_losses].images]
        figures.save(figures.nroi_clusters(images, list(terms.assignments[:EXAMPLES])), folder / "nroi.png")
        if terms.graph.any():
            figures.save(figures.semantic_graph(terms.graph, names), folder / "semantic_graph.png")
    if (model := models[last]).gate is not None:
        classes = [int(item["label"].argmax()) for item in items]
        with torch.no_grad():
            gates = [model.gate(model.shallow(model.encoder(item["image"][None])))[0] for item in items]
        columns = {baseline: [seed(models[baseline], item) for item in items], "gate": gates}
        columns[last] = [seed(model, item) for item in items]
        own = {
            title: [m[c] for m, c in zip(column, classes, strict=True)] for title, column in columns.items()
        }
        rule = "Images evenly spaced over the list; scores of the first class of each."
        figures.save(figures.class_maps(photos, own, rule), folder / "gate.png")
    curves = {
        name: {term: curve for term, curve in recorders[name].curves.items() if any(curve[1])}
        for name in list(models)[1:]
    }
    figures.save(figures.loss_curves(curves), folder / "losses.png")
    kinds = ("oracle", "label_free")
    marks = {name: {kind: score[f"threshold_{kind}"] for kind in kinds} for name, score in scores.items()}
    sweeps = {name: score["miou_sweep"] for name, score in scores.items()}
    thresholds = scores["CAM"]["thresholds"]
    figures.save(figures.threshold_sweep(thresholds, sweeps, marks), folder / "threshold_sweep.png")


@torch.no_grad()
def seed(model: SeedTask, item: dict[str, Any]) -> Tensor:
    """The foreground of the seed of one item: [C, H, W]."""
    batch = {key: value[None] for key, value in item.items() if isinstance(value, Tensor)}
    return model.predict_step({**batch, "id": [item["id"]]}, 0).seeds[0][-model.num_classes :]


def label_map(model: SeedTask, item: dict[str, Any], threshold: float) -> Tensor:
    """The label map [H, W] of an item's seed at a threshold."""
    score, best = seed(model, item).max(0)
    return torch.where(score > threshold, best + 1, 0)
