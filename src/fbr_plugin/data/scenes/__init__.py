"""Synthetic scenes whose classes co-occur with a background texture."""
