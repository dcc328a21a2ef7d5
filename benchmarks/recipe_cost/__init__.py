"""Estimated hours, memory and disk of each recipe: `python -m benchmarks.recipe_cost`."""
