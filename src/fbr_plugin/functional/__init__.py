"""Pure tensor functions: no state, no Lightning, explicit randomness."""

from fbr_plugin.functional.class_evidence import (
    Affinity,
    Words,
    affinity,
    background_words,
    describe,
    gate,
    reach,
)
from fbr_plugin.functional.contrast import Contrast, Tiles, group_by_class, info_nce, separation
from fbr_plugin.functional.kmeans import KMeans, kmeans
from fbr_plugin.functional.pamr import pamr
from fbr_plugin.functional.prototypes import Prototypes, class_prototypes
from fbr_plugin.functional.pseudo_labels import (
    ScoreMaps,
    background_target,
    hard_pixels,
    min_max,
    normalise_scores,
)
from fbr_plugin.functional.random_walk import propagate
from fbr_plugin.functional.resize import resize
from fbr_plugin.functional.sampling import sample_bank, sample_pixels, semantic_graph

__all__ = [
    "Affinity",
    "Contrast",
    "KMeans",
    "Prototypes",
    "ScoreMaps",
    "Tiles",
    "Words",
    "affinity",
    "background_target",
    "background_words",
    "class_prototypes",
    "describe",
    "gate",
    "group_by_class",
    "hard_pixels",
    "info_nce",
    "kmeans",
    "min_max",
    "normalise_scores",
    "pamr",
    "propagate",
    "reach",
    "resize",
    "sample_bank",
    "sample_pixels",
    "semantic_graph",
    "separation",
]
