"""Measurements of effect and speed."""
