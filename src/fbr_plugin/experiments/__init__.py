"""Paired runs of a baseline and its arms with FBR, for the demo and the benchmarks."""
