"""Figures: tensors in, a matplotlib Figure out."""

from fbr_plugin.figures.canvas import save, save_pages, to_array
from fbr_plugin.figures.charts import loss_curves, precision_recall, semantic_graph, threshold_sweep
from fbr_plugin.figures.instances import instances_over_images
from fbr_plugin.figures.overlays import (
    boxes_over_images,
    class_maps,
    examples,
    nroi_clusters,
    object_masks_over_images,
    seeds_over_images,
)

__all__ = [
    "boxes_over_images",
    "class_maps",
    "examples",
    "instances_over_images",
    "loss_curves",
    "nroi_clusters",
    "object_masks_over_images",
    "precision_recall",
    "save",
    "save_pages",
    "seeds_over_images",
    "semantic_graph",
    "threshold_sweep",
    "to_array",
]
