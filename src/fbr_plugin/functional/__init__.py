"""Pure tensor functions: no state, no Lightning, explicit randomness."""

from fbr_plugin.functional.class_similarity import (
    BackgroundClusters,
    ClassSimilarity,
    background_clusters,
    background_similarity,
    class_similarity,
    gate,
    hypercolumns,
    lower_scores,
    lowered_classes,
)
from fbr_plugin.functional.contrast import Contrast, Tiles, group_by_class, info_nce, readable, separation
from fbr_plugin.functional.counter_random import CounterGenerator, Generator, split_mix, uniform
from fbr_plugin.functional.instance_clusters import cluster_pixels, connected_components, refine_centroids
from fbr_plugin.functional.kmeans import KMeans, kmeans
from fbr_plugin.functional.pamr import pamr
from fbr_plugin.functional.prototypes import Prototypes, class_prototypes
from fbr_plugin.functional.pseudo_labels import (
    ScoreMaps,
    background_target,
    cams_to_seeds,
    hard_pixels,
    logits_to_seeds,
    max_normalise,
    min_max,
    normalise_scores,
    resize,
)
from fbr_plugin.functional.random_walk import propagate
from fbr_plugin.functional.sampling import sample_bank, sample_pixels, semantic_graph
from fbr_plugin.functional.score_distribution import BINS, match_distribution, score_histogram

__all__ = [
    "BINS",
    "BackgroundClusters",
    "ClassSimilarity",
    "Contrast",
    "CounterGenerator",
    "Generator",
    "KMeans",
    "Prototypes",
    "ScoreMaps",
    "Tiles",
    "background_clusters",
    "background_similarity",
    "background_target",
    "cams_to_seeds",
    "class_prototypes",
    "class_similarity",
    "cluster_pixels",
    "connected_components",
    "gate",
    "group_by_class",
    "hard_pixels",
    "hypercolumns",
    "info_nce",
    "kmeans",
    "logits_to_seeds",
    "lower_scores",
    "lowered_classes",
    "match_distribution",
    "max_normalise",
    "min_max",
    "normalise_scores",
    "pamr",
    "propagate",
    "readable",
    "refine_centroids",
    "resize",
    "sample_bank",
    "sample_pixels",
    "score_histogram",
    "semantic_graph",
    "separation",
    "split_mix",
    "uniform",
]
