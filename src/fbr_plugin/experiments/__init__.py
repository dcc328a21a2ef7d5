"""Paired runs of a baseline and the same with FBR, for the demo and the benchmarks."""
