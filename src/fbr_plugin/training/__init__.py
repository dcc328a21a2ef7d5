"""The Lightning layer: the mixin, and callbacks."""
