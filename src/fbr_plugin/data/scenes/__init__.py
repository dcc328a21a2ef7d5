"""Synthetic scenes whose classes co-occur with background textures."""
