"""Synthetic scenes whose classes co-occur with stuff in the background."""
