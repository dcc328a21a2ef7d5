"""Figures: tensors in, a matplotlib Figure out."""

from fbr_plugin.figures.canvas import save, save_pages, to_array
from fbr_plugin.figures.charts import (
    confusion_matrix,
    histograms,
    loss_curves,
    precision_recall,
    semantic_graph,
    threshold_sweep,
)
from fbr_plugin.figures.grid import MAX_COLUMNS, MAX_ROWS
from fbr_plugin.figures.instances import instances_over_images
from fbr_plugin.figures.masks import examples, labels_over_images, nroi_clusters
from fbr_plugin.figures.scores import boxes_over_images, class_maps, object_masks_over_images

__all__ = [
    "MAX_COLUMNS",
    "MAX_ROWS",
    "boxes_over_images",
    "class_maps",
    "confusion_matrix",
    "examples",
    "histograms",
    "instances_over_images",
    "labels_over_images",
    "loss_curves",
    "nroi_clusters",
    "object_masks_over_images",
    "precision_recall",
    "save",
    "save_pages",
    "semantic_graph",
    "threshold_sweep",
    "to_array",
]
