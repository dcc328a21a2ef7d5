"""Figures: tensors in, a matplotlib Figure out."""

from fbr_plugin.figures.canvas import save, save_pages, to_array
from fbr_plugin.figures.charts import loss_curves, precision_recall, semantic_graph, threshold_sweep
from fbr_plugin.figures.grid import MAX_COLUMNS, MAX_ROWS
from fbr_plugin.figures.instances import instances_over_images
from fbr_plugin.figures.masks import examples, nroi_clusters, seeds_over_images
from fbr_plugin.figures.scores import boxes_over_images, class_maps, object_masks_over_images

__all__ = [
    "MAX_COLUMNS",
    "MAX_ROWS",
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
