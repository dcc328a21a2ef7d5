"""Released checkpoints as weights of our networks, for `fbr-plugin import-weights`."""
