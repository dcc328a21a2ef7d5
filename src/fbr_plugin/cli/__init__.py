"""The console script `fbr-plugin`: the entry point, and one file per command."""
