"""Callbacks for what ends a training early: signals, errors in loading data, losses that are not finite."""
