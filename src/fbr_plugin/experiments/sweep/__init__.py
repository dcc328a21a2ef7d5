"""Sweeps over settings: arms of a training with paired seeds, on several devices, kept run by run."""
