"""Shared parts of the baselines' LightningModules."""
